#!/usr/bin/env python3
"""cargo-deny over the dependencies: licences, banned and doubled crates, sources, advisories.

    tests/deploy/deny.py

deny.toml and cli/deny.toml say what is allowed. The database of advisories is fetched, or comes from ADVISORY_DB, which is a clone of
it or its URL: with ADVISORY_DB it must be there; without, advisories are left out, aloud, where it cannot be had.
"""

import os
import subprocess
import sys
from pathlib import Path

from tools import CARGO_DENY, ROOT, TOOLS, Checks, Failure, missing, need, run, server

DATABASE = "https://github.com/RustSec/advisory-db"
# A firewall may answer nothing at all.
FETCH_SECONDS = 120


class Deny:
    """cargo-deny, and how to call it."""

    def __init__(self):
        self.program = os.environ.get("FORGE_CARGO_DENY") or server(CARGO_DENY, "cargo-deny")
        self.environment = dict(os.environ, CARGO_TERM_COLOR="never", GIT_TERMINAL_PROMPT="0")

    def __call__(self, *arguments, **options):
        return run(self.program, "--locked", *arguments, cwd=ROOT, env=self.environment, **options)


def fetch(deny, source):
    """Fetches the database. Answers why that failed, or nothing."""
    if source:
        source = Path(source).resolve().as_uri() if Path(source).is_dir() else source
        deny.environment.update(
            GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0=f"url.{source}.insteadOf", GIT_CONFIG_VALUE_0=DATABASE
        )
    try:
        done = deny("fetch", "db", check=False, timeout=FETCH_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer within {FETCH_SECONDS} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return next((line for line in lines if line.startswith("fatal:")), (lines or ["no reason given"])[-1])


def check_advisories(deny, checks):
    source = os.environ.get("ADVISORY_DB")
    why = fetch(deny, source)
    if why is not None:
        need(not source, f"ADVISORY_DB={source}: {why}")
        checks.skip(f"advisories are NOT checked, their database cannot be had ({why}); ADVISORY_DB=DIR names a clone")
        return
    found = list((ROOT / "target/advisory-db").glob("advisory-db-*/"))
    need(len(found) == 1, f"target/advisory-db has to hold one database: {found}")
    database = found[0]
    newest = run("git", "-C", database, "log", "-1", "--format=%cs").strip()
    # Whether a crate was yanked stands in the registry's index, which has to answer.
    deny("check", "--hide-inclusion-graph", "--deny", "index-failure", "advisories")
    checks.ok(f"advisories of {newest}: none against a crate that is used, none of them yanked")


def main():
    if len(sys.argv) != 1:
        sys.exit(__doc__)
    lacking = missing("cargo", "git")
    need(not lacking, f"missing: {lacking}")
    TOOLS.mkdir(parents=True, exist_ok=True)
    checks = Checks()
    deny = Deny()
    # What stands in deny.toml and is needed no more fails too.
    strict = ("--deny", "unmatched-skip", "--deny", "unnecessary-skip", "--deny", "license-not-encountered")
    deny("check", *strict, "licenses", "bans", "sources")
    checks.ok("all crates, all features: licences, no two versions of a large crate, one library of cryptography, crates.io alone")
    deny("--manifest-path", "cli/Cargo.toml", "--config", "cli/deny.toml", "check", "bans")
    checks.ok("the command as it is built by default: no AWS SDK, nothing for tests")
    check_advisories(deny, checks)
    checks.close()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"deny.py: {failure}")
