"""The vector files of tests/vectors/v1: what they hold, writing and checking them.

Part of the independent second implementation written from docs/determinism.md alone; see forge_reader.py for its purpose
and usage. Conventions of the files: draws, thresholds and sums are decimal strings, bytes and hashes lower-case hex,
binary64 results {"f64": decimal, "bits": the 16 hex digits of the IEEE 754 encoding}; `args_text`, `normalised_args`,
`model_args` and `result` are strings that hold JSON text exactly.
"""

from __future__ import annotations

import copy
import json
import struct
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

import forge_core as core
import forge_reader as reader
import forge_shard as shard
import forge_stats as stats
import forge_tables as tables

SPEC = "docs/determinism.md, "

# --- Envelopes -----------------------------------------------------------------------------------------------------

MC = {"name": "mc", "version": 1}
QUICKSTART = {
    "op": {**MC, "profile": "insurance.v1"},
    "args": {"iterations": 2000, "claim_freq": 2.0, "claim_severity_mu": 6.0, "claim_severity_sig": 1.0,
             "cat_prob": 0.02, "cat_mu": 10.0, "cat_sig": 1.5, "policy_limit": 50000, "aggregate_limit": 250000},
    "seed": {"mode": "explicit", "value": "ROOT_SEED_QUICKSTART"},
}
REQUIRED_ONLY = {
    "op": {**MC, "profile": "insurance.v1"},
    "args": {"iterations": 1000, "claim_freq": 3.7, "claim_severity_mu": 7.25, "claim_severity_sig": 0.8},
    "seed": {"mode": "derived"},
}
LIMITS = {
    "op": {**MC, "profile": "insurance.v1"},
    "args": {"iterations": 2000, "claim_freq": 2.5, "claim_severity_mu": 6.0, "claim_severity_sig": 1.2,
             "cat_prob": 0.25, "cat_mu": 7.0, "cat_sig": 0.5, "policy_limit": 500.005, "aggregate_limit": 1200},
    "seed": {"mode": "derived"},
}
WIDE = {
    "op": {**MC, "profile": "insurance.v1"},
    "args": {"iterations": 600, "claim_freq": 1.5, "claim_severity_mu": 2.0, "claim_severity_sig": 0.5,
             "cat_prob": 0.5, "cat_mu": 3.0, "cat_sig": 4.5},
    "seed": {"mode": "explicit", "value": "wide"},
}
SATURATED = {
    "op": {**MC, "profile": "insurance.v1"},
    "args": {"iterations": 200, "claim_freq": 50, "claim_severity_mu": 20, "claim_severity_sig": 5},
    "seed": {"mode": "explicit", "value": "saturated"},
}
NO_CLAIMS = {
    "op": {**MC, "profile": "insurance.v1"},
    "args": {"iterations": 400, "claim_freq": 0, "claim_severity_mu": 6, "claim_severity_sig": 1,
             "cat_prob": 0.1, "cat_mu": 9, "cat_sig": 1},
    "seed": {"mode": "derived"},
}
ETA = {
    "op": {**MC, "profile": "eta.v1"},
    "args": {"iterations": 2000, "base_eta": 12.5, "traffic_mean": 8.0, "traffic_std": 3.0,
             "weather_prob": 0.3, "weather_mean": 4.0, "weather_std": 2.5,
             "incident_prob": 0.05, "incident_mean": 20.0, "incident_std": 6.0},
    "seed": {"mode": "derived"},
}
ETA_REQUIRED_ONLY = {
    "op": {**MC, "profile": "eta.v1"},
    "args": {"iterations": 1000, "base_eta": 30, "traffic_mean": 1.0, "traffic_std": 2.0},
    "seed": {"mode": "explicit", "value": "Δρόμος 🚦 nach Zürich"},
}


def changed(envelope: dict[str, Any], **args: Any) -> dict[str, Any]:
    """An envelope with some args replaced or added."""
    out = copy.deepcopy(envelope)
    out["args"].update(args)
    return out


ENVELOPES: dict[str, dict[str, Any]] = {
    "insurance_quickstart": QUICKSTART,
    "insurance_required_only": REQUIRED_ONLY,
    "insurance_limits": LIMITS,
    "insurance_wide": WIDE,
    "insurance_saturated": SATURATED,
    "insurance_no_claims": NO_CLAIMS,
    "eta_all": ETA,
    "eta_required_only": ETA_REQUIRED_ONLY,
}


def run_of(envelope: dict[str, Any]) -> reader.Run:
    return reader.run_of(reader.parse_json(json.dumps(envelope)))


@lru_cache(maxsize=None)
def shard_of(envelope_text: str, height: int, index: int) -> shard.ShardResult:
    run = run_of(json.loads(envelope_text))
    return shard.run_shard(run.program(), run.root(), height, index, run.args["iterations"])


def bits_of(value: Optional[float]) -> Any:
    """A binary64 result, as the vectors hold it."""
    if value is None:
        return None
    return {"f64": value, "bits": struct.pack(">d", value).hex()}


def pseudo_random(label: str, count: int) -> Iterator[int]:
    """Numbers below 2^64 without a pattern; the vectors hold them, so it does not matter how they are made."""
    for i in range(count):
        yield int.from_bytes(core.sha256(f"{label}/{i}".encode())[:8], "little")


# --- Sections 2 and 3 ----------------------------------------------------------------------------------------------

ARGS_TEXTS: list[tuple[str, str, str, dict[str, str]]] = [
    ("quickstart", "insurance.v1", json.dumps(QUICKSTART["args"]), QUICKSTART["seed"]),
    ("quickstart derived", "insurance.v1", json.dumps(QUICKSTART["args"]), {"mode": "derived"}),
    ("other iterations, same derived root", "insurance.v1", json.dumps({**QUICKSTART["args"], "iterations": 7}),
     {"mode": "derived"}),
    ("number spellings", "insurance.v1",
     '{"iterations": 1e3, "claim_severity_sig": 10e-1, "claim_severity_mu": -0.0, "claim_freq": 20E-1}',
     {"mode": "derived"}),
    ("null is absent", "insurance.v1",
     '{"iterations": 1000, "claim_severity_sig": 1, "claim_severity_mu": 0, "claim_freq": 2, "cat_prob": null,'
     ' "cat_mu": null, "cat_sig": null, "policy_limit": null, "aggregate_limit": null, "convergence": null}',
     {"mode": "derived"}),
    ("more digits than binary64 holds", "insurance.v1",
     '{"iterations": 1000.000, "claim_freq": 0.1000000000000000055511151231257827, "claim_severity_mu":'
     ' 6.000000000000000444089209850062616169452667236328126, "claim_severity_sig": 0.30000000000000004}',
     {"mode": "derived"}),
    ("small and large numbers", "insurance.v1",
     '{"iterations": 9007199254740992, "claim_freq": 0.0000001, "claim_severity_mu": 1.5e-7, "claim_severity_sig":'
     ' 0.000001, "policy_limit": 123456789012.5, "aggregate_limit": 10000000000000}', {"mode": "derived"}),
    ("convergence with defaults", "insurance.v1",
     '{"iterations": 1000000, "claim_freq": 2, "claim_severity_mu": 6, "claim_severity_sig": 1,'
     ' "convergence": {"relative_half_width": 0.01, "metric": "mean"}}', {"mode": "derived"}),
    ("convergence in full", "insurance.v1",
     '{"iterations": 1000000, "claim_freq": 2, "claim_severity_mu": 6, "claim_severity_sig": 1, "convergence":'
     ' {"metric": "tvar", "level": 0.99, "relative_half_width": 0.02, "confidence": 0.9, "min_iterations": 1e5,'
     ' "stable_checkpoints": 3}}', {"mode": "derived"}),
    ("explicit, not ASCII", "insurance.v1", json.dumps(REQUIRED_ONLY["args"]),
     {"mode": "explicit", "value": "Überschwemmung 洪水 🌊"}),
    ("explicit, escapes", "insurance.v1", json.dumps(REQUIRED_ONLY["args"]),
     {"mode": "explicit", "value": "tab\t quote\" backslash\\ slash/ newline\n bell\u0007 delete\u007f line\u2028"}),
    ("eta", "eta.v1", json.dumps(ETA["args"]), {"mode": "derived"}),
    ("eta required only", "eta.v1", json.dumps(ETA_REQUIRED_ONLY["args"]), {"mode": "derived"}),
]
LEAVES = [0, 1, 2, 65_535, 0x12345678, 2**31, 2**32 - 1]
SHARDS = [(0, 0), (0, 1), (0, 65_535), (1, 0), (1, 1), (4, 3), (7, 123_456), (16, 1), (16, 65_535), (31, 1), (32, 0)]


def build_seeds() -> dict[str, Any]:
    runs, trees = [], []
    for name, profile, args_text, seed in ARGS_TEXTS:
        op = {**MC, "profile": profile}
        run = reader.run_of({"op": op, "args": reader.parse_json(args_text), "seed": seed})
        runs.append({
            "name": name, "op": op, "args_text": args_text, "seed": seed,
            "normalised_args": core.jcs(run.args), "model_args": core.jcs(core.model_args(run.args)),
            "root_seed": run.root().hex(), "replay_key": core.replay_key(run.op, run.args, run.seed),
        })
    for root in (bytes(32), bytes.fromhex(runs[0]["root_seed"])):
        trees.append({
            "root_seed": root.hex(),
            "children": [core.child(root, 0).hex(), core.child(root, 1).hex()],
            "leaves": [{"leaf": leaf, "seed": core.leaf_seed(root, leaf).hex()} for leaf in LEAVES],
            "shards": [{"height": h, "index": j, "seed": core.shard_seed(root, h, j).hex()} for h, j in SHARDS],
        })
    return {"spec": SPEC + "sections 2 and 3",
            "comment": "Normalised args, root seeds, replay keys; nodes of the seed tree.",
            "runs": runs, "trees": trees}


# --- Section 4 -----------------------------------------------------------------------------------------------------

# From J. Strömbergson, Test Vectors for the Stream Cipher ChaCha (draft-strombergson-chacha-test-vectors-01): 8 rounds,
# key of 256 bits; TC1 (two blocks), TC2, TC3 (two blocks), TC4.
KNOWN_ANSWERS = [
    ("00" * 32, "00" * 8,
     "3e00ef2f895f40d67f5bb8e81f09a5a12c840ec3ce9a7f3b181be188ef711a1e"
     "984ce172b9216f419f445367456d5619314a42a3da86b001387bfdb80e0cfe42"
     "d2aefa0deaa5c151bf0adb6c01f2a5adc0fd581259f9a2aadcf20f8fd566a26b"
     "5032ec38bbc5da98ee0c6f568b872a65a08abf251deb21bb4b56e5d8821e68aa"),
    ("01" + "00" * 31, "00" * 8,
     "cf5ee9a0494aa9613e05d5ed725b804b12f4a465ee635acc3a311de8740489ea"
     "289d04f43c7518db56eb4433e498a1238cd8464d3763ddbb9222ee3bd8fae3c8"),
    ("00" * 32, "01" + "00" * 7,
     "2b8f4bb3798306ca5130d47c4f8d4ed13aa0edccc1be6942090faeeca0d7599b"
     "7ff0fe616bb25aa0153ad6fdc88b954903c22426d478b97b22b8f9b1db00cf06"
     "470bdffbc488a8b7c701ebf4061d75c5969186497c95367809afa80bd843b040"
     "a79abc6e73a91757f1db73c8eacfa543b38f289d065ab2f3032d377b8c37fe46"),
    ("ff" * 32, "ff" * 8,
     "e163bbf8c9a739d18925ee8362dad2cdc973df05225afb2aa26396f2a9849a4a"
     "445e0547d31c1623c537df4ba85c70a9884a35bcbf3dfab077e98b0f68135f54"),
]


def build_streams() -> dict[str, Any]:
    known = []
    for key, nonce, expected in KNOWN_ANSWERS:
        draws = core.stream(bytes.fromhex(key), int.from_bytes(bytes.fromhex(nonce), "little"))
        keystream = b"".join(next(draws).to_bytes(8, "little") for _ in range(len(expected) // 16)).hex()
        if keystream != expected:
            raise core.SpecError("the ChaCha8 of this implementation is wrong")
        known.append({"key": key, "nonce": nonce, "keystream": keystream})
    streams = []
    root = core.sha256(b"forge/v1/root/explicit\x00ROOT_SEED_QUICKSTART")
    for seed in (bytes(32), core.leaf_seed(root, 0), core.leaf_seed(root, 2**32 - 1)):
        for iteration in (0, 1, 255, 256, 65_535):
            draws = core.stream(seed, iteration)
            streams.append({"leaf_seed": seed.hex(), "iteration": iteration,
                            "draws": [str(next(draws)) for _ in range(20)]})
    return {"spec": SPEC + "section 4",
            "comment": "known_answers: published ChaCha8 vectors (draft-strombergson-chacha-test-vectors-01). streams: the"
                       " first 20 draws of an iteration.",
            "known_answers": known, "streams": streams}


# --- Section 5 -----------------------------------------------------------------------------------------------------


def count_row(law: dict[str, Any], table: tables.CountTable) -> dict[str, Any]:
    offset, thresholds = table
    row: dict[str, Any] = {**law, "offset": offset, "length": len(thresholds)}
    if len(thresholds) <= 40:
        row["thresholds"] = [str(threshold) for threshold in thresholds]
        probes = thresholds
    else:
        probes = [thresholds[0], thresholds[len(thresholds) // 2], thresholds[-1]]
        row["first"], row["middle"], row["last"] = (str(threshold) for threshold in probes)
    row["sha256"] = core.sha256(b"".join(core.le(threshold, 8) for threshold in thresholds)).hex()
    draws = {0, 1, 2**63, 2**64 - 2, 2**64 - 1} | set(probes) | {probe - 1 for probe in probes}
    component = tables.Component("", 0, table, [])
    row["counts"] = [[str(draw), shard.count_of(draw, component)] for draw in sorted(draws)]
    return row


def build_counts() -> dict[str, Any]:
    rows = []
    for rate in (0.0, 1e-25, 1e-6, 0.1, 2.0, 3.7, 40.0, 44.5, 300.0, 10_000.0):
        rows.append(count_row({"law": "poisson", "rate": rate}, tables.poisson_table(rate)))
    for probability in (0.0, 1e-25, 1e-5, 0.02, 0.5, 0.9999999999999999, 1.0):
        rows.append(count_row({"law": "bernoulli", "probability": probability}, tables.bernoulli_table(probability)))
    rows.append(count_row({"law": "constant", "count": 1}, tables.constant_table(1)))
    return {"spec": SPEC + "section 5.1",
            "comment": "Count tables. sha256 is over the stored thresholds as u64le; middle is the threshold at index"
                       " length/2, rounded down. counts: [draw, count].",
            "tables": rows}


LAWS: list[tuple[dict[str, Any], int]] = [
    *(({"law": "lognormal", "mu": mu, "sigma": sigma, "units": 100}, 7) for mu, sigma in (
        (6.0, 0.1), (6.0, 1.0), (10.0, 1.5), (-1.0, 2.5), (6.5, 3.0), (8.0, 4.0), (6.0, 5.0), (20.0, 5.0))),
    ({"law": "lognormal", "mu": 6.0, "sigma": 1.0, "units": 100}, 6),
    ({"law": "lognormal", "mu": 0.0, "sigma": 4.0, "units": 100}, 6),
    ({"law": "normal", "mean": 8.0, "deviation": 3.0, "units": 1000}, 6),
    ({"law": "normal", "mean": 1.0, "deviation": 2.0, "units": 1000}, 6),
    ({"law": "normal", "mean": 1234.5678, "deviation": 0.001, "units": 1000}, 6),
]


def law_of(row: dict[str, Any]) -> tables.LogNormal | tables.Normal:
    if row["law"] == "lognormal":
        return tables.LogNormal(row["mu"], row["sigma"])
    return tables.Normal(row["mean"], row["deviation"])


@lru_cache(maxsize=None)
def table_of(law: tables.LogNormal | tables.Normal, units: int, bits: int) -> list[tables.Entry]:
    return tables.quantile_table(law, units, bits)


def check_precision() -> None:
    """Entries do not depend on the number of digits they are computed with (the margins of forge_tables aside)."""
    for row, _ in LAWS:
        law, units = law_of(row), row["units"]
        usual = tables.quantile_table(law, units, 2)
        if tables.quantile_table(law, units, 2, 46) != usual or tables.quantile_table(law, units, 2, 64) != usual:
            raise core.SpecError(f"entries of {row} depend on the precision")
    for rate in (0.1, 44.5, 300.0):
        if tables.poisson_table(rate, 60) != tables.poisson_table(rate):
            raise core.SpecError(f"thresholds of Poisson({rate}) depend on the precision")


def build_quantiles() -> dict[str, Any]:
    check_precision()
    rows = []
    for law, bits in LAWS:
        table = table_of(law_of(law), law["units"], bits)
        octave = 1 << bits
        indices = [0, 1, octave - 1, octave, 31 * octave + 5, 60 * octave, 63 * octave, 64 * octave - 1,
                   64 * octave, 64 * octave + 1, 95 * octave + 5, 124 * octave, 127 * octave, 128 * octave - 1]
        rows.append({
            **law, "segment_bits": bits, "entries": len(table),
            "sha256": core.sha256(tables.table_bytes(table)).hex(),
            "sample": [{"index": i, **table[i]._asdict()} for i in indices],
        })
    return {"spec": SPEC + "section 5.2",
            "comment": "Quantile tables. sha256 is over the bytes of all entries as section 6 lays them out.",
            "tables": rows}


# --- Section 7 -----------------------------------------------------------------------------------------------------


def build_amounts() -> dict[str, Any]:
    edges = [0, 1, 2, 3, 2**32, 2**62 - 1, 2**62, 2**62 + 1, 2**63 - 1, 2**63, 2**63 + 2**62, 2**64 - 2**32, 2**64 - 3,
             2**64 - 2, 2**64 - 1]
    draws = edges + list(pseudo_random("amounts", 32)) + [d >> 40 for d in pseudo_random("low", 6)] \
        + [2**64 - 1 - (d >> 40) for d in pseudo_random("high", 6)]
    rows = []
    for law, bits in LAWS:
        table = table_of(law_of(law), law["units"], bits)
        rows.append({**law, "segment_bits": bits,
                     "amounts": [[str(draw), shard.amount_of(draw, table, bits)] for draw in draws]})
    return {"spec": SPEC + "section 7",
            "comment": "amounts: [draw, amount before the component's cap (it may be above MAX)].",
            "tables": rows}


# --- Sections 6 and 8 ----------------------------------------------------------------------------------------------


def build_programs() -> dict[str, Any]:
    rows = []
    for name, envelope in ENVELOPES.items():
        program = run_of(envelope).program()
        rows.append({
            "name": name, "envelope": envelope, "units": program.units, "segment_bits": program.segment_bits,
            "base": program.base, "cap": program.cap,
            "components": [{"cap": component.cap, "offset": component.counts.offset,
                            "thresholds": len(component.counts.thresholds)} for component in program.components],
            "length": len(program.to_bytes()), "sha256": program.digest(),
        })
    return {"spec": SPEC + "section 6", "comment": "Programs: sha256 is the program's digest, over `length` bytes.",
            "programs": rows}


def shard_row(name: str, envelope: dict[str, Any], height: int, index: int) -> dict[str, Any]:
    result = shard_of(json.dumps(envelope), height, index)
    return {"name": name, "envelope": envelope, "shard": f"{height}-{index}", "iterations": result.iterations,
            "bytes": result.to_bytes().hex(), "sha256": result.digest()}


def build_shards() -> dict[str, Any]:
    rows = [shard_row(name, envelope, 0, 0) for name, envelope in ENVELOPES.items()]
    rows.append(shard_row("beyond the last iteration: without iterations", LIMITS, 0, 1))
    rows.append(shard_row("a tall shard, cut off", changed(LIMITS, iterations=150), 32, 0))
    merges = []
    for name, envelope in (("insurance_limits", LIMITS), ("eta_all", ETA)):
        parts = [(changed(envelope, iterations=500), 0, 0), (changed(envelope, iterations=65_536 + 300), 0, 1),
                 (changed(envelope, iterations=3 * 65_536 + 40), 1, 1), (changed(envelope, iterations=65_536), 0, 1)]
        merged = None
        part_rows = []
        for part, height, index in parts:
            if (height, index) == (1, 1):  # leaf 2 in full would be slow: the 40 iterations of leaf 3 alone
                height, index = 0, 3
            part_rows.append(shard_row(f"{height}-{index}", part, height, index))
            result = shard_of(json.dumps(part), height, index)
            if merged is None:
                merged = copy.deepcopy(result)
            else:
                merged.merge(result)
        merges.append({"name": name, "parts": part_rows, "iterations": merged.iterations,
                       "bytes": merged.to_bytes().hex(), "sha256": merged.digest()})
    return {"spec": SPEC + "sections 7 and 8",
            "comment": "Shard results: bytes in hex. Shards end at the run's last iteration. merges: parts of several leaves"
                       " of one model, and what they merge to (the last part is without iterations).",
            "shards": rows, "merges": merges}


# --- Section 11 ----------------------------------------------------------------------------------------------------


def build_results() -> dict[str, Any]:
    envelopes = dict(ENVELOPES)
    for name, envelope in (("insurance_quickstart", QUICKSTART), ("insurance_required_only", REQUIRED_ONLY),
                           ("eta_all", ETA)):
        for n in (1, 3):
            envelopes[f"{name}_n{n}"] = changed(envelope, iterations=n)
    envelopes["insurance_no_claims_n40"] = changed(NO_CLAIMS, iterations=40, cat_prob=0.01)
    envelopes["insurance_convergence_without_checkpoint"] = changed(
        QUICKSTART, iterations=500, convergence={"metric": "tvar", "level": 0.99, "relative_half_width": 0.01})
    envelopes["eta_convergence_reached"] = changed(
        ETA_REQUIRED_ONLY, iterations=200_000, convergence={"metric": "mean", "relative_half_width": 0.001})
    rows = []
    for name, envelope in envelopes.items():
        run = run_of(envelope)
        if "convergence" in run.args:
            result, reason = reader.execute(run, 65_536)
        else:
            result, reason = shard_of(json.dumps(envelope), 0, 0), "budget_exhausted"
        text = reader.document(run, result, reason)
        rows.append({"name": name, "envelope": envelope, "result_hash": core.sha256(text.encode()).hex(),
                     "result": text})
    return {"spec": SPEC + "sections 2 to 11",
            "comment": "Whole runs: result is the exact text of result.json, result_hash its SHA-256.", "results": rows}


# --- Section 9 -----------------------------------------------------------------------------------------------------


def synthetic(marks: list[int], amounts: list[tuple[int, int]]) -> shard.ShardResult:
    """A result made up of amounts and how often they occur; one component without occurrences, largest = total."""
    result = shard.ShardResult(1, marks)
    cap = marks[-1] if marks else tables.MAX
    for amount, times in amounts:
        result.add(amount, amount, cap, times)
    return result


def synthetic_row(name: str, marks: list[int], amounts: list[tuple[int, int]]) -> dict[str, Any]:
    result = synthetic(marks, amounts)
    return {"name": name, "marks": marks, "amounts": [list(item) for item in amounts],
            "shard_bytes": result.to_bytes().hex(), "n": result.iterations}


def spread(label: str, count: int, top: int, times: int) -> list[tuple[int, int]]:
    """Distinct amounts below top without a pattern, denser towards 0, each up to `times` times."""
    found: dict[int, int] = {}
    for x in pseudo_random(label, count):
        fraction = x % 1_000_003
        found[top * fraction * fraction // 1_000_003**2] = 1 + (x >> 32) % times
    return sorted(found.items())


SYNTHETIC: list[tuple[str, list[int], list[tuple[int, int]]]] = [
    ("one amount", [], [(123_456, 1)]),
    ("one amount, often", [], [(5_000_000, 777)]),
    ("zeros", [], [(0, 1000)]),
    ("zeros and one", [], [(0, 999), (100_003, 1)]),
    ("small amounts", [], [(i, 1 + i % 3) for i in range(0, 200, 7)]),
    ("wide", [], spread("wide", 60, 10**9, 50)),
    ("at MAX", [], [(0, 3), (10**15 + 1, 2), (tables.MAX - 1, 1), (tables.MAX, 4)]),
    ("mark at the top", [250_000], spread("top", 25, 249_000, 9) + [(250_000, 60)]),
    ("mark within a bucket", [50_005, 120_017],
     [(50_000, 3), (50_005, 40), (50_013, 4), (50_017, 2), (120_000, 1), (120_017, 11), (120_063, 5)]),
    ("three marks in one bucket", [2**40 + 10**6, 2**40 + 2 * 10**6, 2**40 + 2 * 10**8],
     [(2**40 - 5, 4), (2**40 + 3, 7), (2**40 + 10**6, 50), (2**40 + 1_500_000, 3), (2**40 + 2 * 10**6, 20),
      (2**40 + 2 * 10**8, 9), (2**40 + 9 * 10**8, 13)]),
    ("mark not reached", [70_000], [(60_000, 10), (69_990, 5), (70_010, 5)]),
    ("mark at the minimum", [2050, 9000], [(2050, 12), (2051, 3), (8000, 2), (9000, 1)]),
    ("counts beyond 2^53", [10**6], [(1, 2**53 + 1), (3_333, 2**54 + 12_345), (777_777, 10**12 + 7), (10**6, 10**9)]),
]
LEVELS = [(500, 1000), (900, 1000), (950, 1000), (990, 1000), (995, 1000), (999, 1000),
          (1, 2), (4, 5), (249, 250), (999, 1000), (990_000, 10**6), (999_999, 10**6), (1, 10**6)]


def build_statistics() -> dict[str, Any]:
    rows = []
    for name, marks, amounts in SYNTHETIC:
        row = synthetic_row(name, marks, amounts)
        result = synthetic(marks, amounts)
        order = stats.Order(result.total)
        n = order.n
        ranks = sorted({rank for rank in (1, 2, 3, 4, n // 3, n // 2, n // 2 + 1, n - n // 10, n - 1, n)
                        if 1 <= rank <= n})
        row["n"] = str(n)
        row["pieces"] = [[piece.low, piece.high, str(piece.count)] for piece in order.pieces]
        row["order_statistics"] = [{"rank": str(rank), "x": bits_of(order.statistic(rank))} for rank in ranks]
        row["tails"] = [{"a": a, "b": b, "rank": str(order.rank(a, b)), "var": bits_of(order.var(a, b)),
                         "tvar": bits_of(order.tvar(a, b))} for a, b in dict.fromkeys(LEVELS)]
        row["sum"], row["sum_of_squares"] = str(result.sum), str(result.sum_of_squares)
        moments = stats.moments_of(n, result.sum, result.sum_of_squares)
        row["moments"] = {key: bits_of(value) for key, value in moments._asdict().items()}
        row["amounts"] = [[amount, str(times)] for amount, times in amounts]
        rows.append(row)
    intervals = []
    for n in (1, 2, 3, 10, 59, 100, 1000, 2000, 65_536, 1_000_000, 3_999_999, 4_000_000, 4_000_001, 10**9, 10**12):
        for a, b, confidence in ((500, 1000, 0.95), (900, 1000, 0.95), (995, 1000, 0.95), (999, 1000, 0.95),
                                 (990_000, 10**6, 0.9), (1, 10**6, 0.999)):
            if n == 1_000_000 and (a, confidence) != (500, 0.95):
                continue  # long sums: one of them is enough
            low, high = stats.interval_ranks(n, a, b, confidence)
            intervals.append({"n": n, "a": a, "b": b, "confidence": confidence,
                              "branch": "weights" if stats.is_exact_branch(n, a, b) else "normal",
                              "low": low, "high": high})
    quantiles = [{"confidence": c, "z": bits_of(stats.z_of(c))}
                 for c in (0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.999999, 1e-6)]
    return {"spec": SPEC + "section 9",
            "comment": "distributions: amounts are [amount, iterations]; shard_bytes is the same as a shard result with one"
                       " component without occurrences, the largest equal to the total, and the last mark (or MAX) as the"
                       " program's cap; pieces are [low, high, count]; all in minor units. intervals: ranks l and h of"
                       " 9.3. normal_quantiles: z of 9.3.",
            "distributions": rows, "intervals": intervals, "normal_quantiles": quantiles}


# --- Section 10 ----------------------------------------------------------------------------------------------------


def state(checkpoint: int) -> list[tuple[int, int]]:
    """Made-up totals at a checkpoint C·65,536 whose variance settles as C grows."""
    n = checkpoint * stats.LEAF_ITERATIONS
    amounts = [(0, n // 4)]
    left = n - n // 4
    for i in range(1, 30):
        times = left // 3
        left -= times
        amounts.append((1000 * i * i + 400_000 * i // (checkpoint**3), times))
    amounts.append((2_000_000 + 4_000_000 // checkpoint, left))
    return [(amount, times) for amount, times in amounts if times]


CONVERGENCE_CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("mean, at once", 400_000, {"metric": "mean", "relative_half_width": 0.05}),
    ("mean, minimum of iterations", 400_000, {"metric": "mean", "relative_half_width": 0.05,
                                              "min_iterations": 131_073}),
    ("mean, later", 1_000_000, {"metric": "mean", "relative_half_width": 0.0045}),
    ("mean, never", 400_000, {"metric": "mean", "relative_half_width": 1e-6}),
    ("no checkpoint", 65_535, {"metric": "mean", "relative_half_width": 0.5}),
    ("no checkpoint above the minimum", 400_000, {"metric": "mean", "relative_half_width": 0.5,
                                                  "min_iterations": 400_000}),
    ("var", 1_000_000, {"metric": "var", "level": 0.99, "relative_half_width": 0.01, "confidence": 0.99}),
    ("var, a rank is missing", 200_000, {"metric": "var", "level": 0.999999, "relative_half_width": 0.9}),
    ("tvar", 1_000_000, {"metric": "tvar", "level": 0.99, "relative_half_width": 0.008, "confidence": 0.9}),
    ("tvar, low level", 1_000_000, {"metric": "tvar", "level": 0.5, "relative_half_width": 0.0045}),
    ("variance, one stable checkpoint", 1_000_000, {"metric": "tvar", "level": 0.9, "relative_half_width": 0.003,
                                                    "stable_checkpoints": 1}),
    ("variance, two stable checkpoints", 1_000_000, {"metric": "mean", "relative_half_width": 0.002,
                                                     "stable_checkpoints": 2}),
]


def build_convergence() -> dict[str, Any]:
    lists = [{"iterations": n, "min_iterations": minimum, "checkpoints": stats.checkpoints(n, minimum)}
             for n, minimum in ((1, 1), (65_535, 1), (65_536, 1), (1_000_000, 1), (2_000_000, 131_072),
                                (10_000_000, 262_145), (10**12, 10**9))]
    states, results, cases = [], {}, []
    for c in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14):
        row = synthetic_row(f"C={c}", [1_000_000], state(c))
        states.append(row)
        results[row["n"]] = synthetic([1_000_000], state(c))
    zeros = {n: synthetic([1_000_000], [(0, n)]) for n in results}
    for name, iterations, raw in CONVERGENCE_CASES + [
            ("zeros: no estimate, a stable variance", 1_000_000,
             {"metric": "mean", "relative_half_width": 0.1, "stable_checkpoints": 1})]:
        settings = reader.normalised_convergence(raw)
        convergence = stats.Convergence(settings)
        evaluations = []
        performed, reason = iterations, "budget_exhausted"
        for count in stats.checkpoints(iterations, settings["min_iterations"]):
            found, stop = convergence.test((zeros if name.startswith("zeros") else results)[count])
            evaluations.append({
                "iterations": count, "estimate": bits_of(found.estimate), "half_width": bits_of(found.half_width),
                "variance": bits_of(found.variance), "band": found.band, "stable_run": found.stable_run})
            if stop:
                performed, reason = count, stop
                break
        cases.append({"name": name, "iterations": iterations, "convergence": settings,
                      "all_zero": name.startswith("zeros"), "evaluations": evaluations,
                      "performed": performed, "stop_reason": reason})
    return {"spec": SPEC + "section 10",
            "comment": "checkpoints: the list for a budget and a minimum. states: made-up merged results at the checkpoints,"
                       " as in statistics.json (they are not parts of one another). cases: the settings tested on these"
                       " states (all_zero: on totals that are all 0 instead), in minor units; stable_run is the number of"
                       " checkpoints in a row, up to this one, whose variance was within the tolerance.",
            "checkpoints": lists, "states": states, "cases": cases}


# --- Writing and checking ------------------------------------------------------------------------------------------

FILES: dict[str, Callable[[], dict[str, Any]]] = {
    "seeds.json": build_seeds,
    "streams.json": build_streams,
    "counts.json": build_counts,
    "quantiles.json": build_quantiles,
    "amounts.json": build_amounts,
    "programs.json": build_programs,
    "shards.json": build_shards,
    "results.json": build_results,
    "statistics.json": build_statistics,
    "convergence.json": build_convergence,
}


def pretty(value: Any, indent: int = 0) -> str:
    """JSON with two spaces of indentation; what fits on a line stays on it."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or not value or indent + len(flat) <= 116:
        return flat
    pad = " " * (indent + 2)
    if isinstance(value, dict):
        items = [f"{pad}{json.dumps(key, ensure_ascii=False)}: {pretty(item, indent + 2)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"
    items = [pad + pretty(item, indent + 2) for item in value]
    return "[\n" + ",\n".join(items) + "\n" + " " * indent + "]"


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 90 else f"{text[:70]}… ({len(text)} characters)"


def differences(path: str, stored: Any, computed: Any) -> Iterator[str]:
    """A line for each place where two JSON values differ."""
    if isinstance(stored, dict) and isinstance(computed, dict):
        for key in list(computed) + [key for key in stored if key not in computed]:
            if key not in stored:
                yield f"{path}.{key}: missing"
            elif key not in computed:
                yield f"{path}.{key}: not in the specification's vectors"
            else:
                yield from differences(f"{path}.{key}", stored[key], computed[key])
    elif isinstance(stored, list) and isinstance(computed, list):
        if len(stored) != len(computed):
            yield f"{path}: {len(stored)} items, computed {len(computed)}"
        for i, (a, b) in enumerate(zip(stored, computed)):
            yield from differences(f"{path}[{i}]", a, b)
    elif type(stored) is not type(computed) or stored != computed:
        yield f"{path}: stored {shown(stored)}, computed {shown(computed)}"


def check_file(path: Path, text: str) -> list[str]:
    """What is wrong with a stored vector file."""
    stored = path.read_bytes().decode("utf-8")
    if stored == text:
        return []
    try:
        found = list(differences(path.name, json.loads(stored), json.loads(text)))
    except ValueError as error:
        return [f"{path.name}: no JSON: {error}"]
    return found or [f"{path.name}: same values, written differently"]


def main(directory: Path, write: bool) -> int:
    """`forge_reader.py vectors DIR --check` and `--write`."""
    problems: list[str] = []
    for name, build in FILES.items():
        path = directory / name
        started = time.process_time()
        text = pretty(build()) + "\n"
        if path.exists():
            found = check_file(path, text)
            if found and write:
                found = [f"{name}: exists with other content; released vectors never change: not written"]
        elif write:
            directory.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode("utf-8"))
            found = []
        else:
            found = [f"{name}: missing"]
        problems += found
        status = "differs" if found else "ok"
        print(f"{name}: {status} ({len(text.encode('utf-8'))} bytes, {time.process_time() - started:.1f} s)",
              file=sys.stderr)
    problems += [f"{path.name}: not a vector file of this version" for path in sorted(directory.glob("*"))
                 if path.name not in FILES]
    for problem in problems:
        print(problem)
    return 1 if problems else 0
