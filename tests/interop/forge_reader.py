#!/usr/bin/env python3
"""A second implementation of docs/determinism.md, written from that document alone.

Purpose: to show that the document is complete. It shares no code with the kernel: integers,
`decimal` and `fractions` for the tables, binary64 floats for the reporting. Python 3.9 or newer,
standard library only. Slow: some thousand iterations a second, so runs beyond --max-iterations are
refused.

Usage:
    forge_reader.py result ENVELOPE.json            the bytes of result.json, to stdout
    forge_reader.py shard ENVELOPE.json H-J         the bytes of a shard result in hex (cut off at the run's last iteration)
    forge_reader.py vectors DIR --check             recompute every vector file in DIR; exit 1 and a line per difference
    forge_reader.py vectors DIR --write             write the vector files; refuses to change one that exists

Modules: forge_core (sections 1 to 4), forge_tables (5), forge_program (6), forge_execution (7),
forge_families, forge_gamma, forge_beta, forge_inverse_gaussian (5.2), forge_compound (6.3, 12.1),
forge_distribution, forge_shard, forge_subjects, forge_details, forge_marks (8), forge_stats (9, 10),
forge_moments, forge_compound_output (11.1), forge_checks (11.2), this file (2, 11),
forge_vectors, forge_vector_inputs, forge_vector_portfolios, forge_vector_compound,
forge_vector_files (the vectors).
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from forge_compound import compound_program, millionths, normalised_compound  # noqa: E402
from forge_compound_output import Output  # noqa: E402
from forge_core import SpecError, jcs, model_args, replay_key, root_seed  # noqa: E402
from forge_distribution import Distribution, bucket_low, bucket_of  # noqa: E402
from forge_moments import Moments  # noqa: E402
from forge_program import MAX, Program, eta_program, insurance_program  # noqa: E402
from forge_shard import ShardResult, no_iterations, run_range, run_shard  # noqa: E402
from forge_stats import Convergence, Order, checkpoints, f64, moments_of, tail_figures  # noqa: E402

# --- Section 2: args
# -----------------------------------------------------------------------------------------------

INTEGERS = {"iterations", "min_iterations", "stable_checkpoints"}
# Required args of each profile, and optional args in groups that are given together or not at all.
PROFILES: dict[str, tuple[list[str], list[list[str]]]] = {
    "insurance.v1": (["claim_freq", "claim_severity_mu", "claim_severity_sig"],
                     [["cat_prob", "cat_mu", "cat_sig"], ["policy_limit"], ["aggregate_limit"]]),
    "eta.v1": (["base_eta", "traffic_mean", "traffic_std"],
               [["weather_prob", "weather_mean", "weather_std"],
                ["incident_prob", "incident_mean", "incident_std"]]),
}
COMMON = ("iterations", "convergence")  # section 12: args of all profiles
CONVERGENCE_DEFAULTS = {"confidence": 0.95, "min_iterations": 1, "stable_checkpoints": 0}


def parse_json(text: str) -> Any:
    """Section 1: a number is the binary64 nearest to its decimal text, integers included."""
    return json.loads(text, parse_int=float, parse_float=float)


def number(name: str, value: Any) -> int | float:
    """Section 2: one number of the args: `-0` becomes 0, integers become int."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SpecError(f"{name} is no number")
    value = float(value)
    if not math.isfinite(value):
        raise SpecError(f"{name} is not finite")
    if name in INTEGERS:
        if value != math.floor(value) or abs(value) > 2**53:
            raise SpecError(f"{name} is no integer within ±2^53")
        return int(value)
    return value + 0.0  # −0 + 0 is 0


def normalised_convergence(raw: dict[str, Any]) -> dict[str, Any]:
    """Sections 2, 10 and 11: `convergence` with its defaults."""
    given = {key: value for key, value in raw.items() if value is not None}
    out: dict[str, Any] = {"metric": given.pop("metric", None)}
    if out["metric"] not in ("mean", "var", "tvar"):
        raise SpecError("convergence.metric is not mean, var or tvar")
    wanted = ["relative_half_width"] + ([] if out["metric"] == "mean" else ["level"])
    for key in wanted + list(CONVERGENCE_DEFAULTS):
        if key in given:
            out[key] = number(key, given.pop(key))
        elif key in CONVERGENCE_DEFAULTS:
            out[key] = CONVERGENCE_DEFAULTS[key]
        else:
            raise SpecError(f"convergence.{key} is missing")
    if given:
        raise SpecError(f"convergence: unknown or misplaced {sorted(given)}")
    return out


def normalised_report(raw: dict[str, Any]) -> dict[str, Any]:
    """Section 12: `report` of insurance.v1, without the lists that equal their defaults."""
    given = {key: value for key, value in raw.items() if value is not None}
    out = {}
    for key, default in (("return_periods", RETURN_PERIODS), ("levels", [a / 1000 for _, a in LEVELS])):
        if key in given:
            values = [number(key, value) for value in given.pop(key)]
            if values != default:
                out[key] = values
    if given:
        raise SpecError(f"report: unknown {sorted(given)}")
    return out


def normalised_args(profile: str, raw: dict[str, Any]) -> dict[str, Any]:
    """Sections 2 and 11: fills in defaults, omits absent and null optional args, turns −0 into 0.
    """
    given = {key: value for key, value in raw.items() if value is not None}
    out: dict[str, Any] = {}
    if profile == "risk.compound.v1":
        out = normalised_compound({key: given.pop(key) for key in list(given) if key not in COMMON})
    elif profile not in PROFILES:
        raise SpecError(f"unknown profile {profile}")
    required, groups = PROFILES.get(profile, ([], []))
    for key in ["iterations"] + required:
        if key not in given:
            raise SpecError(f"{key} is missing")
        out[key] = number(key, given.pop(key))
    for group in groups:
        present = [key for key in group if key in given]
        if present and present != group:
            raise SpecError(f"{group} are given together or not at all")
        for key in present:
            out[key] = number(key, given.pop(key))
    if profile == "insurance.v1" and "report" in given:
        report = normalised_report(given.pop("report"))
        if report:
            out["report"] = report
    if "convergence" in given:
        out["convergence"] = normalised_convergence(given.pop("convergence"))
    if given:
        raise SpecError(f"unknown args {sorted(given)}")
    if out["iterations"] < 1:
        raise SpecError("iterations is below 1")
    return out


class Run(NamedTuple):
    """Section 2: the inputs that determine a result."""

    op: dict[str, Any]
    args: dict[str, Any]
    seed: dict[str, str]

    def root(self) -> bytes:
        return root_seed(self.op, self.args, self.seed)

    def program(self) -> Program:
        return program_of(self.op["profile"], jcs(model_args(self.args)))


def run_of(envelope: dict[str, Any]) -> Run:
    """Section 2: op, normalised args and seed of an envelope; nothing else has an influence."""
    raw_op = envelope["op"]
    op = {"name": raw_op["name"], "profile": raw_op["profile"], "version": int(raw_op["version"])}
    raw_seed = envelope.get("seed") or {"mode": "derived"}
    if raw_seed.get("mode") == "explicit":
        seed = {"mode": "explicit", "value": raw_seed["value"]}
    elif raw_seed.get("mode") == "derived":
        seed = {"mode": "derived"}
    else:
        raise SpecError("seed.mode is neither derived nor explicit")
    run = Run(op, normalised_args(op["profile"], envelope["args"]), seed)
    refuse_test_without_variance(run)
    return run


def refuse_test_without_variance(run: Run) -> None:
    """Section 12.1: `mean` and `tvar` are not tested where `total` has no moment of order 2."""
    is_compound = run.op["profile"] == "risk.compound.v1"
    if is_compound and run.args.get("convergence", {}).get("metric") in ("mean", "tvar"):
        if Moments(run.args, run.program()).after(None) < 2:
            raise SpecError("convergence.metric needs a variance, which total does not have")


@lru_cache(maxsize=32)
def program_of(profile: str, args_text: str) -> Program:
    """Section 6: the program of model args, given as canonical text, which is the cache key."""
    args = parse_json(args_text)
    programs = {"insurance.v1": insurance_program, "eta.v1": eta_program, "risk.compound.v1": compound_program}
    return programs[profile](args)


# --- Section 11: result document
# -----------------------------------------------------------------------------------

LEVELS = [("p50", 500), ("p90", 900), ("p95", 950), ("p99", 990), ("p995", 995), ("p999", 999)]
RETURN_PERIODS = [2, 5, 10, 25, 50, 100, 200, 250, 500, 1000]


def in_units(value: Any, units: int) -> Any:
    """Section 11: minor units ÷ f64(units), the last step; null stays null."""
    return None if value is None else f64(value) / f64(units)


def quantile_rows(order: Order, levels: list[tuple[int, int]], units: int) -> list[dict[str, Any]]:
    """Section 11: `quantiles`."""
    return [{"level": f64(a) / f64(b), **tail_figures(order, (a, b), units)} for a, b in levels]


def exceedance_rows(total: Order, largest: Order, periods: list[int], units: int) -> list[dict[str, Any]]:
    """Section 11: `exceedance`."""
    return [{
        "return_period": period,
        "aep": tail_figures(total, (period - 1, period), units),
        "oep": tail_figures(largest, (period - 1, period), units),
    } for period in periods]


def grouped(total: Distribution, units: int) -> dict[str, Any]:
    """Section 11: `loss_distribution` and `eta_distribution`; group g holds buckets 128·g … 128·g +
    127.
    """
    first, last = bucket_of(total.minimum) // 128, bucket_of(total.maximum) // 128
    counts = [0] * (last - first + 1)
    for bucket, times in total.buckets.items():
        counts[bucket // 128 - first] += times
    edges = [in_units(bucket_low(group * 128), units) for group in range(first, last + 2)]
    return {"edges": edges, "counts": counts}


def output_of(run: Run, program: Program, result: ShardResult) -> dict[str, Any]:
    """Section 11: `output` of all profiles."""
    if run.op["profile"] == "risk.compound.v1":
        return Output(run.args, program, result).output(grouped(result.total, program.units))
    noun = "loss" if run.op["profile"] == "insurance.v1" else "eta"
    units, n = program.units, result.iterations
    moments = moments_of(n, result.sum, result.sum_of_squares)
    order = Order(result.total)
    report = run.args.get("report", {})
    levels = [(a, 1000) for _, a in LEVELS]
    if "levels" in report:
        levels = sorted((millionths(level), 10**6) for level in report["levels"])
    periods = sorted(int(period) for period in report.get("return_periods", RETURN_PERIODS))
    out: dict[str, Any] = {
        f"mean_{noun}": in_units(moments.mean, units),
        "std_dev": in_units(moments.std_dev, units),
        "std_error": in_units(moments.std_error, units),
        f"min_{noun}": in_units(result.total.minimum, units),
        f"max_{noun}": in_units(result.total.maximum, units),
        "quantiles": quantile_rows(order, levels, units),
        f"{noun}_distribution": grouped(result.total, units),
    }
    for name, a in LEVELS:
        out[f"{name}_{noun}"] = in_units(order.var(a, 1000), units)
    if noun == "loss":
        out["zero_loss_probability"] = f64(result.total.buckets.get(0, 0)) / f64(n)
        limited = "aggregate_limit" in run.args
        out["aggregate_limit_probability"] = f64(result.at_cap) / f64(n) if limited else 0
        out["exceedance"] = exceedance_rows(order, Order(result.largest), periods, units)
    return out


def work_of(program: Program, result: ShardResult) -> dict[str, Any]:
    """Section 11: `work`."""
    components = program.components()
    saturated = sum(times for component, times in zip(components, result.capped) if component.limit == MAX)
    if program.cap == MAX:
        saturated += result.at_cap
    return {
        "occurrences": sum(result.occurrences),
        "saturated": saturated,
        "components": [
            {"name": component.name, "occurrences": result.occurrences[i], "capped": result.capped[i]}
            for i, component in enumerate(components)
        ],
    }


def document(run: Run, result: ShardResult, stop_reason: str) -> str:
    """Section 11: result.json of merged iterations, as text."""
    program = run.program()
    return jcs({
        "schema": "forge.result.v1",
        "kernel": 1,
        "replay_key": replay_key(run.op, run.args, run.seed),
        "op": run.op,
        "args": run.args,
        "seed": {"mode": run.seed["mode"], "root_seed": run.root().hex()},
        "program": program.digest(),
        "iterations": {"requested": run.args["iterations"], "performed": result.iterations,
                       "stop_reason": stop_reason},
        "work": work_of(program, result),
        "output": output_of(run, program, result),
    })


def execute(run: Run, max_iterations: int) -> tuple[ShardResult, str]:
    """Sections 7 and 10: executes the run; returns what was performed and why it stopped."""
    program, root = run.program(), run.root()
    iterations = run.args["iterations"]
    result = no_iterations(program)

    def extend(end: int) -> None:
        if end > max_iterations:
            raise SpecError(f"this run needs {end} iterations: pure Python is slow, raise --max-iterations "
                            f"(now {max_iterations}) if you mean it")
        result.merge(run_range(program, root, result.iterations, end))

    if "convergence" in run.args:
        settings = run.args["convergence"]
        convergence = Convergence(settings)
        for count in checkpoints(iterations, settings["min_iterations"]):
            extend(count)
            _, reason = convergence.test(result)
            if reason:
                return result, reason
    extend(iterations)
    return result, "budget_exhausted"


# --- Command line
# --------------------------------------------------------------------------------------------------


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Second implementation of docs/determinism.md")
    parser.add_argument("--max-iterations", type=int, default=200_000, help="refuse longer runs (default 200000)")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("result", help="print result.json of an envelope")
    command.add_argument("envelope", type=Path)
    command.add_argument("--max-iterations", type=int, default=argparse.SUPPRESS)
    command = commands.add_parser("shard", help="print a shard result in hex")
    command.add_argument("envelope", type=Path)
    command.add_argument("shard", metavar="H-J")
    command.add_argument("--max-iterations", type=int, default=argparse.SUPPRESS)
    command = commands.add_parser("vectors", help="check or write the vector files")
    command.add_argument("directory", type=Path)
    mode = command.add_mutually_exclusive_group(required=True)
    mode.add_argument("--check", action="store_true")
    mode.add_argument("--write", action="store_true")
    options = parser.parse_args(argv)
    try:
        if options.command == "vectors":
            import forge_vector_files

            return forge_vector_files.main(options.directory, options.write)
        run = run_of(parse_json(options.envelope.read_text(encoding="utf-8")))
        if options.command == "result":
            result, reason = execute(run, options.max_iterations)
            sys.stdout.buffer.write(document(run, result, reason).encode("utf-8"))
            return 0
        match = re.fullmatch(r"(\d+)-(\d+)", options.shard)
        if not match or int(match[1]) > 32 or int(match[2]) >> (32 - int(match[1])):
            raise SpecError("a shard is H-J with H from 0 to 32 and J below 2^(32−H)")
        height, index = int(match[1]), int(match[2])
        width = 65_536 << height
        size = max(0, min(run.args["iterations"] - index * width, width))
        if size > options.max_iterations:
            raise SpecError(f"this shard has {size} iterations: raise --max-iterations (now {options.max_iterations})")
        print(run_shard(run.program(), run.root(), height, index, run.args["iterations"]).to_bytes().hex())
        return 0
    except (SpecError, KeyError, OSError, ValueError) as error:
        print(f"forge_reader: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
