"""Compares `forge run` with the Python reader, byte for byte, on envelopes that neither has seen.

    python3 tests/interop/compare.py PATH/TO/forge [--count N] [--seed S]

The envelopes are drawn from the given seed (by default a new one, which is printed), so that a
difference can be looked at again. Exit status 1 on the first difference.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from random_portfolios import compound

HERE = os.path.dirname(os.path.abspath(__file__))


def optional(rng, args, share=0.7):
    return dict(args) if rng.random() < share else {}


def insurance(rng):
    args = {
        "iterations": rng.randint(1, 1500),
        "claim_freq": rng.choice([0, 1e-4, round(rng.uniform(0, 12), 3), rng.uniform(0, 40)]),
        "claim_severity_mu": round(rng.uniform(-3, 14), 3),
        "claim_severity_sig": rng.uniform(0.05, 8.0) if rng.random() < 0.2 else round(rng.uniform(0.05, 3.0), 3),
    }
    cat = {"cat_prob": rng.choice([0, 1, 1e-5, rng.random()]), "cat_mu": rng.uniform(5, 14),
           "cat_sig": rng.uniform(0.1, 2.5)}
    args.update(optional(rng, cat))
    args.update(optional(rng, {"policy_limit": round(rng.uniform(1, 1e6), 2)}))
    args.update(optional(rng, {"aggregate_limit": round(rng.uniform(1, 1e7), 2)}))
    levels = [a / 10**6 for a in rng.sample(range(1, 10**6), rng.randint(1, 5))]
    lists = optional(rng, {"levels": levels}) | optional(rng, {"return_periods": rng.sample(range(2, 500), 3)})
    args.update(optional(rng, {"report": lists}, share=0.5))
    return "insurance.v1", args


def eta(rng):
    args = {"iterations": rng.randint(1, 1500), "base_eta": rng.uniform(0, 4000),
            "traffic_mean": rng.uniform(0, 900), "traffic_std": rng.uniform(1, 900)}
    for name in ("weather", "incident"):
        delay = {f"{name}_prob": rng.random(), f"{name}_mean": rng.uniform(0, 900), f"{name}_std": rng.uniform(1, 400)}
        args.update(optional(rng, delay))
    return "eta.v1", args


def envelope(rng):
    profile, args = rng.choices([insurance, eta, compound], weights=[3, 1, 2])[0](rng)
    result = {"op": {"name": "mc", "version": 1, "profile": profile}, "args": args}
    if rng.random() < 0.6:
        result["seed"] = {"mode": "explicit", "value": f"séed-{rng.getrandbits(64)}"}
    return result


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.decode()}")
    return done.stdout


def reader_command(path):
    return [sys.executable, os.path.join(HERE, "forge_reader.py"), "result", path]


def heavy_tail(alpha, metric, limit=None):
    """An envelope that tests a figure of losses with this tail index."""
    claim = {"line": "a", "severity": {"pareto": {"threshold": 1000, "alpha": alpha}}}
    group = {"name": "g", "count": {"poisson": 0.5}, "claims": [claim | ({"limit": limit} if limit else {})]}
    level = {} if metric == "mean" else {"level": 0.9}
    convergence = {"metric": metric, "relative_half_width": 0.01} | level
    args = {"iterations": 20, "lines": ["a"], "groups": [group], "convergence": convergence}
    return {"op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"}, "args": args}


def compare_refusals(forge, folder):
    """Both refuse to test a figure that needs a variance where there is none, and nothing else."""
    path = os.path.join(folder, "convergence.json")
    for alpha, metric, limit, is_valid in [
            (2, "mean", None, False), (1.5, "tvar", None, False), (2.1, "mean", None, True),
            (2.1, "tvar", None, True), (1.5, "var", None, True), (1.5, "mean", 1e6, True)]:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(heavy_tail(alpha, metric, limit), file)
        for command in ([forge, "envelope", "check", path], reader_command(path)):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            says_why = b"variance" in done.stdout
            if (done.returncode == 0) != is_valid or (not is_valid and not says_why):
                sys.exit(f"{' '.join(command)} ended with {done.returncode} for {metric} with tail index {alpha} "
                         f"and limit {limit}:\n{done.stdout.decode()}")
    print("  equal: which tests of precision are refused")


def compare(forge, folder, path):
    """Both give the same bytes for the result of an envelope; returns their number."""
    ours = run([forge, "run", path, "--format", "json", "--out", os.path.join(folder, "out")])
    theirs = run(reader_command(path))
    if ours != theirs:
        with open(path, encoding="utf-8") as file:
            sys.exit(f"the results differ for {file.read()}\nforge:  {ours!r}\nreader: {theirs!r}")
    return len(ours)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("forge")
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    options = parser.parse_args()
    rng = random.Random(options.seed)
    print(f"comparing {options.count} envelopes from seed {options.seed}")
    with tempfile.TemporaryDirectory() as folder:
        compare_refusals(options.forge, folder)
        paths = []
        for number in range(options.count):
            paths.append(os.path.join(folder, f"{number}.json"))
            with open(paths[-1], "w", encoding="utf-8") as file:
                json.dump(envelope(rng), file)
        # The threads wait for the processes of the reader, one for each CPU.
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for size in threads.map(lambda path: compare(options.forge, folder, path), paths):
                print(f"  equal: {size} bytes")
        run([options.forge, "audit", "--all", os.path.join(folder, "out"), "--reexecute", "1"])
        print("  every audit of these jobs passes")
    print(f"{options.count} passed, 0 failed")


if __name__ == "__main__":
    main()
