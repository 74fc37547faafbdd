"""Canonical JSON, seeds, seed tree and random stream of docs/determinism.md (sections 1 to 4).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, Iterator

LEAF_ITERATIONS = 65_536  # section 3
TREE_DEPTH = 32  # section 3
M32 = 0xFFFFFFFF


class SpecError(Exception):
    """The input is invalid, or the document does not specify how to treat it."""


# --- Section 1: notation
# -------------------------------------------------------------------------------------------


def ecmascript_number(value: float) -> str:
    """Section 1, JCS: a binary64 as ECMAScript prints it (RFC 8785, section 3.2.2.3)."""
    if not math.isfinite(value):
        raise SpecError("JSON has no non-finite numbers")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")  # repr gives the shortest digits that read back
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction
    point = len(whole) + int(exponent or "0")  # the value is 0.digits · 10^point
    point -= len(digits) - len(digits.lstrip("0"))
    digits = digits.strip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    power = point - 1
    tail = "." + digits[1:] if count > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if power > 0 else '-'}{abs(power)}"


_ESCAPES = {0x22: '\\"', 0x5C: "\\\\", 8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r"}
_ESCAPES.update({code: f"\\u{code:04x}" for code in range(0x20) if code not in _ESCAPES})


def jcs(value: Any) -> str:
    """Section 1: JCS(v), the canonical JSON of RFC 8785, as text (hash and write it as UTF-8)."""
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return str(value) if abs(value) <= 2**53 else ecmascript_number(float(value))
    if isinstance(value, float):
        return ecmascript_number(value)
    if isinstance(value, str):
        return '"' + value.translate(_ESCAPES) + '"'
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(jcs(item) for item in value) + "]"
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))  # by UTF-16 code units
        return "{" + ",".join(jcs(key) + ":" + jcs(value[key]) for key in keys) + "}"
    raise TypeError(f"no JSON form for {type(value).__name__}")


def varint(value: int) -> bytes:
    """Section 1: unsigned LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def le(value: int, size: int) -> bytes:
    """Section 1: u32le, u64le, u128le, u256le (size 4, 8, 16, 32)."""
    return value.to_bytes(size, "little")


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


# --- Section 2: root seed and replay key
# ---------------------------------------------------------------------------


def model_args(args: dict[str, Any]) -> dict[str, Any]:
    """Section 2: the normalised args without `iterations` and `convergence`."""
    return {key: value for key, value in args.items() if key not in ("iterations", "convergence")}


def root_seed(op: dict[str, Any], args: dict[str, Any], seed: dict[str, str]) -> bytes:
    """Section 2: the root seed of normalised args."""
    if seed["mode"] == "explicit":
        return sha256(b"forge/v1/root/explicit\x00" + seed["value"].encode("utf-8"))
    text = jcs({"args": model_args(args), "op": op})
    return sha256(b"forge/v1/root/derived\x00" + text.encode("utf-8"))


def replay_key(op: dict[str, Any], args: dict[str, Any], seed: dict[str, str]) -> str:
    """Section 2: the replay key of normalised args."""
    text = jcs({"args": args, "kernel": 1, "op": op, "seed": seed})
    return "fr1-" + sha256(text.encode("utf-8")).hex()


# --- Section 3: seed tree
# ------------------------------------------------------------------------------------------


def child(parent: bytes, bit: int) -> bytes:
    """Section 3: child(parent, bit)."""
    return sha256(b"forge/v1/seed-tree\x00" + parent + bytes([bit]))


def node(root: bytes, depth: int, index: int) -> bytes:
    """Section 3: the node that the `depth` bits of `index`, most significant first, lead to."""
    seed = root
    for position in range(depth - 1, -1, -1):
        seed = child(seed, index >> position & 1)
    return seed


def leaf_seed(root: bytes, leaf: int) -> bytes:
    """Section 3: the seed of leaf ℓ."""
    return node(root, TREE_DEPTH, leaf)


def shard_seed(root: bytes, height: int, index: int) -> bytes:
    """Section 3: the seed of shard h-j."""
    return node(root, TREE_DEPTH - height, index)


# --- Section 4: random stream
# --------------------------------------------------------------------------------------


def _double_round() -> str:
    """The source of one double round on the local variables x0 … x15: columns, then diagonals."""
    lines = []
    for a, b, c, d in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                       (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
        for p, q, r, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            lines.append(f"x{p} = x{p} + x{q} & M; t = x{r} ^ x{p}; x{r} = t << {bits} & M | t >> {32 - bits}")
    return "\n        ".join(lines)


_BLOCK_SOURCE = """
def chacha8_block(state):
    {names} = state
    for _ in range(4):
        {double_round}
    return [{sums}]
"""


def _compile_block() -> Any:
    """Generates the block function with its words as local variables, far faster than an indexed
    list.
    """
    names = ", ".join(f"x{i}" for i in range(16))
    sums = ", ".join(f"x{i} + state[{i}] & M" for i in range(16))
    scope: dict[str, Any] = {"M": M32}
    exec(_BLOCK_SOURCE.format(names=names, double_round=_double_round(), sums=sums), scope)
    return scope["chacha8_block"]


chacha8_block = _compile_block()  # section 4: initial state (16 words) to block (16 words)


def stream(seed: bytes, iteration: int) -> Iterator[int]:
    """Section 4: the draws (u64) of iteration `iteration` of the leaf with this seed, endlessly."""
    key = [int.from_bytes(seed[i:i + 4], "little") for i in range(0, 32, 4)]
    constants = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574]
    counter = 0
    while True:
        words = chacha8_block(
            constants + key + [counter & M32, counter >> 32, iteration & M32, iteration >> 32])
        for i in range(0, 16, 2):
            yield words[i] | words[i + 1] << 32
        counter += 1
