"""The contents of the vector files in tests/vectors/v1. forge_vector_inputs has their inputs;
forge_vector_files writes and checks the files.

Part of the independent second implementation written from docs/determinism.md alone; see
forge_reader.py for its purpose and usage. Conventions of the files: draws, thresholds and sums are
decimal strings, bytes and hashes lower-case hex, binary64 results {"f64": decimal, "bits": the 16
hex digits of the IEEE 754 encoding}; `args_text`, `normalised_args`, `model_args` and `result` are
strings that hold JSON text exactly.
"""

from __future__ import annotations

import copy
import json
import struct
from functools import lru_cache
from typing import Any, Callable, Optional

import forge_core as core
import forge_execution as execution
import forge_program as programs
import forge_reader as reader
import forge_shard as shard
import forge_stats as stats
import forge_tables as tables
from forge_vector_inputs import (ARGS_TEXTS, CONVERGENCE_CASES, ENVELOPES, ETA, KNOWN_ANSWERS, LAWS, LEAVES, LEVELS,
                                 LIMITS, MC, NO_CLAIMS, QUICKSTART, REQUIRED_ONLY, ETA_REQUIRED_ONLY, SHARDS, SYNTHETIC,
                                 changed, pseudo_random)
from forge_vector_compound import build_compound
from forge_vector_portfolios import build_portfolios

SPEC = "docs/determinism.md, "
CONFIDENCE = 0.95  # of the intervals of statistics.json


def run_of(envelope: dict[str, Any]) -> reader.Run:
    return reader.run_of(reader.parse_json(json.dumps(envelope)))


@lru_cache(maxsize=None)
def shard_of(envelope_text: str, height: int, index: int) -> shard.ShardResult:
    run = run_of(json.loads(envelope_text))
    return shard.run_shard(run.program(), run.root(), height, index, run.args["iterations"])


def bits_of(value: Optional[float]) -> Any:
    """A binary64 result in the notation of the vectors."""
    if value is None:
        return None
    return {"f64": value, "bits": struct.pack(">d", value).hex()}


# --- Sections 2 and 3
# ----------------------------------------------------------------------------------------------


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


# --- Section 4
# --------------------------------------------------------------------------------------------------


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


# --- Section 5
# --------------------------------------------------------------------------------------------------


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
    row["counts"] = [[str(draw), execution.count_of(draw, table)] for draw in sorted(draws)]
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


def law_of(row: dict[str, Any]) -> tables.LogNormal | tables.Normal:
    if row["law"] == "lognormal":
        return tables.LogNormal(row["mu"], row["sigma"])
    return tables.Normal(row["mean"], row["deviation"])


@lru_cache(maxsize=None)
def table_of(law: tables.LogNormal | tables.Normal, units: int, bits: int) -> list[tables.Entry]:
    return tables.quantile_table(law, units, bits)


def check_precision() -> None:
    """Checks that entries do not depend on the precision, within the margins of forge_tables."""
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


# --- Section 7
# --------------------------------------------------------------------------------------------------


def build_amounts() -> dict[str, Any]:
    edges = [0, 1, 2, 3, 2**32, 2**62 - 1, 2**62, 2**62 + 1, 2**63 - 1, 2**63, 2**63 + 2**62, 2**64 - 2**32, 2**64 - 3,
             2**64 - 2, 2**64 - 1]
    draws = edges + list(pseudo_random("amounts", 32)) + [d >> 40 for d in pseudo_random("low", 6)] \
        + [2**64 - 1 - (d >> 40) for d in pseudo_random("high", 6)]
    rows = []
    for law, bits in LAWS:
        table = table_of(law_of(law), law["units"], bits)
        rows.append({**law, "segment_bits": bits,
                     "amounts": [[str(draw), execution.amount_of(draw, table, bits)] for draw in draws]})
    return {"spec": SPEC + "section 7",
            "comment": "amounts: [draw, amount before the component's cap (it may be above MAX)].",
            "tables": rows}


# --- Sections 6 and 8
# ----------------------------------------------------------------------------------------------


def table_bits(program: programs.Program) -> int:
    """`segment_bits` of all quantile tables of insurance.v1 and eta.v1."""
    (bits,) = {component.amounts.bits for component in program.components()}
    return bits


def build_programs() -> dict[str, Any]:
    rows = []
    for name, envelope in ENVELOPES.items():
        program = run_of(envelope).program()
        rows.append({
            "name": name, "envelope": envelope, "units": program.units, "segment_bits": table_bits(program),
            "base": program.base, "cap": program.cap,
            "components": [{"cap": group.components[0].limit, "offset": group.counts.offset,
                            "thresholds": len(group.counts.thresholds)} for group in program.groups],
            "length": len(program.to_bytes()), "sha256": program.digest(),
        })
    return {"spec": SPEC + "section 6",
            "comment": "Programs: sha256 is the program's digest, over `length` bytes. segment_bits is that of all"
                       " quantile tables; cap of a component is its limit.",
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
                 (changed(envelope, iterations=3 * 65_536 + 40), 0, 3), (changed(envelope, iterations=65_536), 0, 1)]
        merged = None
        part_rows = []
        for part, height, index in parts:
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


# --- Section 11
# --------------------------------------------------------------------------------------------------


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


# --- Section 9
# --------------------------------------------------------------------------------------------------


def synthetic(marks: list[int], amounts: list[tuple[int, int]]) -> shard.ShardResult:
    """A result from amounts and their counts; one component without occurrences, largest = total.
    """
    result = shard.ShardResult(1, marks)
    cap = marks[-1] if marks else programs.MAX
    for amount, times in amounts:
        result.add(amount, amount, cap, times)
    return result


def synthetic_row(name: str, marks: list[int], amounts: list[tuple[int, int]]) -> dict[str, Any]:
    result = synthetic(marks, amounts)
    return {"name": name, "marks": marks, "amounts": [list(item) for item in amounts],
            "shard_bytes": result.to_bytes().hex(), "n": result.iterations}


def order_statistic_row(order: stats.Order, rank: int) -> dict[str, Any]:
    return {"rank": str(rank), "x": bits_of(order.statistic(rank)), "x_lower": bits_of(order.lower.statistic(rank)),
            "x_upper": bits_of(order.upper.statistic(rank))}


def tail_row(order: stats.Order, a: int, b: int) -> dict[str, Any]:
    var_low, var_high = order.var_interval(a, b, CONFIDENCE)
    tvar_low, tvar_high = order.tvar_interval(a, b, CONFIDENCE)
    return {"a": a, "b": b, "rank": str(order.rank(a, b)), "var": bits_of(order.var(a, b)),
            "tvar": bits_of(order.tvar(a, b)), "tvar_lower": bits_of(order.lower.tvar(a, b)),
            "tvar_upper": bits_of(order.upper.tvar(a, b)),
            "interval": {"var_low": bits_of(var_low), "var_high": bits_of(var_high),
                         "tvar_low": bits_of(tvar_low), "tvar_high": bits_of(tvar_high)}}


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
        for field, some in (("pieces", order), ("pieces_lower", order.lower), ("pieces_upper", order.upper)):
            row[field] = [[piece.low, piece.high, str(piece.count)] for piece in some.pieces]
        row["order_statistics"] = [order_statistic_row(order, rank) for rank in ranks]
        row["tails"] = [tail_row(order, a, b) for a, b in dict.fromkeys(LEVELS)]
        row["sum"], row["sum_of_squares"] = str(result.sum), str(result.sum_of_squares)
        moments = stats.moments_of(n, result.sum, result.sum_of_squares)
        row["moments"] = {key: bits_of(value) for key, value in moments._asdict().items()}
        row["amounts"] = [[amount, str(times)] for amount, times in amounts]
        rows.append(row)
    intervals = []
    for n in (1, 2, 3, 10, 59, 100, 1000, 2000, 65_536, 1_000_000, 3_999_999, 4_000_000, 4_000_001, 10**9, 10**12):
        for a, b, confidence in ((500, 1000, 0.95), (900, 1000, 0.95), (995, 1000, 0.95), (999, 1000, 0.95),
                                 (990_000, 10**6, 0.9), (1, 10**6, 0.999)):
            low, high = stats.interval_ranks(n, a, b, confidence)
            intervals.append({"n": n, "a": a, "b": b, "confidence": confidence,
                              "branch": "weights" if stats.is_exact_branch(n, a, b) else "normal",
                              "low": low, "high": high})
    quantiles = [{"confidence": c, "z": bits_of(stats.z_of(c))}
                 for c in (0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.999999, 1e-6)]
    return {"spec": SPEC + "section 9",
            "comment": "distributions: amounts are [amount, iterations]; shard_bytes is the same as a shard result with one"
                       " component without occurrences, the largest equal to the total, and the last mark (or MAX) as the"
                       " program's cap; pieces are [low, high, count], of the estimate, and in pieces_lower and"
                       " pieces_upper of the bounds; all in minor units. order_statistics: x_lower and x_upper are x↓"
                       " and x↑. tails: tvar_lower and tvar_upper are tvar↓ and tvar↑; interval holds the ends of the"
                       " intervals of 9.3 at confidence 0.95, null where a rank does not exist. intervals: ranks l and"
                       " h of 9.3. normal_quantiles: z of 9.3.",
            "distributions": rows, "intervals": intervals, "normal_quantiles": quantiles}


# --- Section 10
# --------------------------------------------------------------------------------------------------


def state(checkpoint: int) -> list[tuple[int, int]]:
    """Synthetic totals at a checkpoint C·65,536; their variance converges, but jumps at C = 7."""
    n = checkpoint * stats.LEAF_ITERATIONS
    scale = 1000 + 400 // checkpoint**4 + (10 if checkpoint == 7 else 0)
    amounts = [(0, n // 4)]
    left = n - n // 4
    for i in range(1, 30):
        times = left // 3
        left -= times
        amounts.append((i * i * scale, times))
    amounts.append((1000 * scale, left))
    return [(amount, times) for amount, times in amounts if times]


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


FILES: dict[str, Callable[[], dict[str, Any]]] = {
    "seeds.json": build_seeds,
    "streams.json": build_streams,
    "counts.json": build_counts,
    "quantiles.json": build_quantiles,
    "amounts.json": build_amounts,
    "programs.json": build_programs,
    "shards.json": build_shards,
    "portfolios.json": build_portfolios,
    "compound.json": build_compound,
    "results.json": build_results,
    "statistics.json": build_statistics,
    "convergence.json": build_convergence,
}
