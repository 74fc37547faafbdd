"""Messages of a dishonest worker: keys, results of shards, and the frame that carries them.

Written from docs/contract.md; uses no code of Forge.
"""

import base64
import hashlib
import json
import os
import struct

from nacl.signing import SigningKey

USER_PREFIX = 20 << 3
PROTOCOL = 1
KERNEL = 1


def _crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021) & 0xFFFF if crc & 0x8000 else (crc << 1) & 0xFFFF
    return crc


class Key:
    """An agent's key pair. Its id is a public NATS user nkey."""

    def __init__(self):
        self._key = SigningKey(os.urandom(32))
        raw = bytes([USER_PREFIX]) + bytes(self._key.verify_key)
        checked = raw + struct.pack("<H", _crc16(raw))
        self.id = base64.b32encode(checked).decode().rstrip("=")

    def sign(self, message):
        return self._key.sign(message).signature.hex()


def canonical(document):
    """Canonical JSON, for documents of strings and small integers."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def statement(key, task, pool, result, **changes):
    """What an agent states about a result."""
    stated = {
        "protocol": PROTOCOL,
        "job_uid": task["job_uid"],
        "shard_id": task["shard_id"],
        "iterations": task["iterations"],
        "seed": task["seed"],
        "program": task["program"],
        "kernel": task["kernel"],
        "task_id": task["task_id"],
        "pool": pool,
        "agent_id": key.id,
        "backend": "simd-avx2",
        "result_hash": hashlib.sha256(result).hexdigest(),
    }
    return {**stated, **changes}


def attestation(key, stated, signature=None):
    """The attestation of a statement, validly signed unless a signature is given."""
    signature = signature or key.sign(b"forge/v1/result\0" + canonical(stated))
    return {"protocol": PROTOCOL, "statement": stated, "wall_us": 1000, "cpu_us": 1000, "signature": signature}


def frame(attested, result):
    """The payload of a result: length of the JSON, JSON, bytes."""
    document = json.dumps(attested).encode()
    return struct.pack("<I", len(document)) + document + result


def signed_result(key, task, pool, result, **changes):
    """The payload of a result, validly signed."""
    return frame(attestation(key, statement(key, task, pool, result, **changes)), result)


def unsigned(task, pool, payload=b"x"):
    """A result whose signature is zeros."""
    key = Key()
    return frame(attestation(key, statement(key, task, pool, payload), signature="0" * 128), payload)


def verdict(key, uid, shard, outcome, **changes):
    """The payload of a verifier's validly signed verdict about a result that it makes up."""
    stated = {
        "protocol": PROTOCOL,
        "outcome": outcome,
        "job_uid": uid,
        "shard_id": shard,
        "task_id": os.urandom(32).hex(),
        "pool": "default",
        "agent_id": key.id,
        "result_hash": os.urandom(32).hex(),
        "verifier_id": key.id,
        "backend": "scalar",
        "reason": "",
        **changes,
    }
    signature = key.sign(b"forge/v1/verdict\0" + canonical(stated))
    return json.dumps({"protocol": PROTOCOL, "statement": stated, "signature": signature}).encode()


def made_up_task(uid, shard, iterations=65_536):
    """A task that no planner has made."""
    zeros = "0" * 64
    return {
        "job_uid": uid,
        "shard_id": shard,
        "iterations": iterations,
        "seed": zeros,
        "program": zeros,
        "kernel": 1,
        "task_id": os.urandom(32).hex(),
    }


def heartbeat(key, **changes):
    """The heartbeat of a worker."""
    record = {
        "schema": "forge.agent.v1",
        "agent_id": key.id,
        "state": "live",
        "target": "cpu",
        "backend": "scalar",
        "slots": 2,
        "batch": 1,
        "kernel": 1,
        "version": "0.1.0",
        "host": "x",
    }
    return json.dumps({**record, **changes}).encode()


def result_subject(pool, task):
    return f"forge.v1.results.{pool}.{task['job_uid']}.{task['shard_id']}"


def _varint(value):
    encoded = b""
    while value >= 0x80:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def _bucket(amount):
    if amount < 1024:
        return amount
    octave = amount.bit_length() - 11
    return octave * 1024 + (amount >> octave)


def shard_result(iterations, components, amount=0, occurrences=None):
    """A well-formed result without marks and details, in which every iteration has this amount."""
    if occurrences is None:
        occurrences = iterations if amount else 0
    encoded = b"FKSR" + struct.pack("<IQQ", 1, iterations, 0)
    encoded += (amount * iterations).to_bytes(16, "little")
    encoded += (amount * amount * iterations).to_bytes(32, "little")
    encoded += _varint(components)
    for _ in range(components):
        encoded += _varint(occurrences) + _varint(0)
    encoded += _varint(0)
    for _ in range(2):
        encoded += struct.pack("<QQ", amount, amount)
        encoded += _varint(1) + _varint(_bucket(amount)) + _varint(iterations)
    return encoded + _varint(0)


def wide_shard_result(iterations, components, buckets=40_000):
    """A well-formed result of about 160 kB, whose iterations are spread over as many buckets."""
    lower = [bucket if bucket < 1024 else (1024 + bucket % 1024) << (bucket // 1024 - 1) for bucket in range(buckets)]
    counts = [iterations // buckets] * buckets
    counts[0] += iterations % buckets
    amounts = list(zip(lower, counts))
    encoded = b"FKSR" + struct.pack("<IQQ", 1, iterations, 0)
    encoded += sum(amount * count for amount, count in amounts).to_bytes(16, "little")
    encoded += sum(amount * amount * count for amount, count in amounts).to_bytes(32, "little")
    encoded += _varint(components) + (_varint(iterations) + _varint(0)) * components + _varint(0)
    histogram = b"".join(_varint(0) + _varint(count) for count in counts)
    distribution = struct.pack("<QQ", lower[0], lower[-1]) + _varint(buckets) + histogram
    return encoded + 2 * distribution + _varint(0)
