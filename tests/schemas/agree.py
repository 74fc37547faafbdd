#!/usr/bin/env python3
"""Compares three readers of envelopes: ajv in strict mode, Python's jsonschema, and `forge envelope
check`.

    agree.py FORGE [--count N] [--seed N]

Envelopes are made from the examples by random changes, so that about half of them are invalid. Both
validators must agree on every one. `envelope check` must refuse what they refuse, and may refuse
more only for a rule that a schema does not express, such as one about two values.
"""

import argparse
import concurrent.futures
import copy
import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "deploy"))
from tools import ROOT, Checks, Failure, environment, node_modules, node_programs, require, run  # noqa: E402

JSONSCHEMA = "jsonschema==4.26.0"
AJV = "ajv@8.17.1"
SCHEMA = ROOT / "schemas/v1/envelope.schema.json"

# Errors about rules that a schema does not express, such as those about two values.
BEYOND_THE_SCHEMA = re.compile("|".join([
    r": is missing: give all of ",
    r": must be 0 \(no maximum\) or at least min_agents",
    r": must be at most \d+ with this many occurrences an iteration",
    r"/level: (is missing: metrics `var` and `tvar`|is not allowed with metric)",
    r": must have at most six decimals",
    r": is too large: most amounts",
    r": is the name of an earlier ",
    # One of the names that the envelope declares elsewhere.
    r"/(line|index|lines/\d+|covers/\d+|groups/\d+): must be ",
    # The largest amount depends on `decimals`.
    r": must be from (0|1e-9|0\.01) to 10000000000000;",
    r": repeats an earlier element",
    # Rules about all rates, or all lines, of an event table.
    r"/rates: must (have a positive element|add up to at most 10000)",
    r"/rates/\d+: must be 0, or at least 1e-12",
    r"/amounts: must have as many elements as `rates`",
    r": is the line of an earlier element too",
    # The number of occurrences follows from mean, variance and factors.
    r": leads to more than 32768 occurrences",
    r": allows \d+ amounts in a year",
    # Months have different numbers of days.
    r'/as_of: must be a date .* it is "2026-02-30"$',
]))

EXAMPLES = [("risk.compound.v1", name) for name in ("portfolio", "tower", "capital", "mixture", "events")]
VALUES = [None, True, 0, 1, -1, 0.5, 1e-7, 2.5, 1e15, 2**53, "", "var", "any name", "not a \u200bname", "a\u202eb", "EUR", "2026-12-31", "2026-02-30", [], [1], {}, {"unknown": 1}]
KEYS = ["convergence", "report", "iterations", "policy_limit", "level", "decimals", "$schema", "seed", "unknown", "value",
        "about", "title", "description", "currency", "as_of"]


def base_envelopes(forge):
    files = [path.read_text() for path in sorted((ROOT / "examples").glob("*.json"))]
    printed = [run(forge, "envelope", "new", "--profile", profile, "--example", name) for profile, name in EXAMPLES]
    return [json.loads(text) for text in files + printed]


def containers(value):
    """Every object and every list of a document."""
    if isinstance(value, dict | list):
        yield value
        for child in value.values() if isinstance(value, dict) else value:
            yield from containers(child)


def random_number(rng):
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randrange(1, 100) / 100
    if kind == 1:
        return round(rng.random(), rng.randrange(1, 6))
    if kind == 2:
        return rng.randrange(-10, 10**rng.randrange(1, 15))
    return rng.random() * 10 ** rng.randrange(-9, 9)


def random_convergence(rng):
    convergence = {"metric": rng.choice(["mean", "var", "tvar", "var99"]), "relative_half_width": random_number(rng)}
    if convergence["metric"] != "mean":
        convergence["level"] = rng.randrange(1, 100) / 100
    return convergence


def change(envelope, rng):
    """Changes an envelope at one place."""
    place = rng.choice(list(containers(envelope)))
    kind = rng.randrange(8)
    if kind == 0:
        envelope["$schema"] = rng.choice(["https://example.com/envelope.schema.json", "", None, 1])
    elif kind == 1:
        envelope["args"] = {**envelope["args"], "convergence": random_convergence(rng)} \
            if isinstance(envelope.get("args"), dict) else {}
    elif kind == 2 and isinstance(place, dict):
        place[rng.choice(KEYS)] = rng.choice([*VALUES, random_number(rng)])
    elif place:
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if kind == 3:
            del place[key]
        elif kind in (4, 5) and isinstance(place[key], int | float):
            place[key] = random_number(rng)
        elif kind == 6 and isinstance(place, list):
            place.append(copy.deepcopy(place[key]))
        else:
            place[key] = copy.deepcopy(rng.choice(VALUES))


def random_envelopes(bases, count, rng):
    for _ in range(count):
        envelope = copy.deepcopy(rng.choice(bases))
        for _ in range(rng.choice([0, 1, 1, 1, 2])):
            change(envelope, rng)
        yield envelope


def check(forge, envelope):
    """Returns the errors of `forge envelope check`."""
    done = subprocess.run([forge, "envelope", "check", "-", "--print"], input=json.dumps(envelope), text=True,
                          capture_output=True)
    require(done.returncode in (0, 2), f"exit code {done.returncode}: {done.stderr}")
    return done.stderr.splitlines()[:-1] if done.returncode == 2 else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("forge", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    forge, rng, checks = args.forge.resolve(), random.Random(args.seed), Checks()
    (node, npm), here = node_programs(), Path(__file__).resolve().parent
    envelopes = list(random_envelopes(base_envelopes(forge), args.count, rng))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as documents:
        json.dump(envelopes, documents)
        documents.flush()
        by_ajv = run(node, here / "validate.mjs", node_modules(node, npm, AJV), SCHEMA, documents.name)
        checks.ok("ajv compiles the schema in strict mode")
        python = environment(JSONSCHEMA) / "bin/python"
        by_python = run(python, here / "validate.py", SCHEMA, documents.name).strip()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        by_forge = list(pool.map(lambda envelope: check(forge, envelope), envelopes))
    require(len(by_ajv) == len(by_python) == len(envelopes), "a validator left documents out")
    faults, counts = [], {"valid": 0, "invalid": 0, "beyond the schema": 0}
    for envelope, ajv, jsonschema, errors in zip(envelopes, by_ajv, by_python, by_forge):
        if ajv == jsonschema == ("v" if errors is None else "i"):
            counts["valid" if errors is None else "invalid"] += 1
        elif ajv == jsonschema == "v" and all(BEYOND_THE_SCHEMA.search(error) for error in errors):
            counts["beyond the schema"] += 1
        else:
            faults.append(f"ajv {ajv}, jsonschema {jsonschema}, forge {errors}: {json.dumps(envelope)}")
    require(not faults, "\n".join(faults[:20]) + f"\n{len(faults)} of {len(envelopes)} disagree")
    require(min(counts["valid"], counts["invalid"]) >= len(envelopes) // 5, f"one-sided envelopes: {counts}")
    checks.ok(f"ajv, jsonschema and envelope check agree on {len(envelopes)} envelopes: {counts}")
    checks.close()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"not ok: {failure}")
