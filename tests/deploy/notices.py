#!/usr/bin/env python3
"""Tests deploy/notices.py and THIRD_PARTY_LICENSES.txt.

    tests/deploy/notices.py

The committed file is the one that would be written. Independently of that, every crate that cargo's
build plans of all released programs link is in it, with a licence that deny.toml allows and with a
text. Nothing is compiled.
"""

import re
import sys
import tempfile
import tomllib
from pathlib import Path

from sbom import FEATURES, planned
from tools import CYCLONEDX, ROOT, Checks, Failure, environment, require, run

NOTICES = ROOT / "deploy/notices.py"
DOCUMENT = ROOT / "THIRD_PARTY_LICENSES.txt"
TARGETS = [f"{machine}-unknown-linux-{libc}" for machine in ("x86_64", "aarch64") for libc in ("gnu", "musl")]
RULE = "-" * 80
# Licences that demand the copyright line of every copy.
WITH_COPYRIGHT = {"MIT", "ISC", "BSD-3-Clause", "Zlib"}


def parse(document):
    """Returns the components, as name to licences, texts and copyright line, and the texts."""
    head, *parts = document.split(f"{RULE}\n[")
    rows = re.findall(r"^(\S.*)\n    (\S.*?) (\[.*\])\n    \S+\n(?:    (.*)\n)?", head, re.M)
    components = {name: (set(names.split(" AND ")), set(re.findall(r"\[(\w+)\]", keys)), line) for name, names, keys, line in rows}
    texts = {part[:8]: part.split(f"{RULE}\n", 1)[1] for part in parts}
    return components, texts


def check_crates(checks):
    components, texts = parse(DOCUMENT.read_text())
    allowed = set(tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]["allow"])
    plan = {crate for features in FEATURES.values() for target in TARGETS for crate in planned(features, target)}
    plan |= {crate for target in TARGETS if target.endswith("gnu") for crate in planned([], target, "forge-python")}
    linked = {f"{name} {version}" for name, version in plan if not name.startswith("forge-")}
    require(len(linked) > 200, f"the build plans link only {len(linked)} crates")
    listed = {name for name in components if re.search(r" \d+\.", name)}
    require(linked == listed, f"crates: {sorted(linked ^ listed)}")
    for name, (licenses, keys, line) in components.items():
        require(licenses <= allowed, f"{name}: deny.toml does not allow {licenses - allowed}")
        require(keys and keys <= set(texts), f"{name} has no text: {keys}")
        own = " ".join(texts[key] for key in keys)
        require(len(own) > 500, f"{name}: a short text: {own}")
        require(licenses.isdisjoint(WITH_COPYRIGHT) or re.search(r"copyright|©|\(c\) \d", f"{own} {line}", re.I), f"{name}: no copyright line")
    used = {key for _, keys, _ in components.values() for key in keys}
    require(used == set(texts), f"texts of no component: {set(texts) - used}")
    checks.ok(f"{len(listed)} crates, those of all build plans, have a licence of deny.toml and {len(texts)} texts")
    # Section 4 (d) of Apache-2.0.
    object_store = next(keys for name, (_, keys, _) in components.items() if name.startswith("object_store "))
    require(any("Apache Software Foundation (http" in texts[key] for key in object_store), "no NOTICE of object_store")
    require({"Rust standard library", "musl libc, in static programs only"} <= set(components), "no standard libraries")
    checks.ok("NOTICE files and the standard libraries are included")


def check_freshness(directory, checks):
    run(sys.executable, NOTICES, "--check")
    checks.ok("THIRD_PARTY_LICENSES.txt fits Cargo.lock")
    stale = directory / "stale.txt"
    stale.write_text(re.sub(r"^anyhow .*\n(?:    .*\n)+\n", "", DOCUMENT.read_text(), flags=re.M))
    done = run(sys.executable, NOTICES, "--check", "--output", stale, check=False)
    require(done.returncode == 1 and "make notices" in done.stderr, f"{done.stdout}{done.stderr}")
    checks.ok("a file without one crate is refused")


def check_choice(checks):
    """Checks which licences of an expression are chosen."""
    python = environment(CYCLONEDX) / "bin/python"
    program = (
        f"import sys; sys.path.insert(0, {str(NOTICES.parent)!r})\n"
        "from notices import chosen_licenses\n"
        "for expression in sys.stdin.read().splitlines():\n"
        "    print(' AND '.join(chosen_licenses('x', {'license': expression}, ['Apache-2.0', 'MIT', 'Unicode-3.0'])))\n"
    )
    choices = {
        "MIT": "MIT",
        "MIT OR Apache-2.0": "Apache-2.0",
        "Unlicense/MIT": "MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0": "Apache-2.0 AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR MIT": "MIT",
    }
    output = run(python, "-c", program, input="\n".join(choices)).splitlines()
    require(output == list(choices.values()), f"{output}")
    for expression in ("GPL-3.0-only", "MIT AND GPL-3.0-only", "Apache-2.0 WITH LLVM-exception", ""):
        done = run(python, "-c", program, input=f"{expression}\n", check=False)
        require(done.returncode != 0 and "licence" in done.stderr, f"{expression}: {done.stdout}{done.stderr}")
    checks.ok("the first allowed alternative is chosen, and what deny.toml does not allow is refused")


def main():
    if len(sys.argv) != 1:
        sys.exit(__doc__)
    checks = Checks()
    check_choice(checks)
    check_crates(checks)
    with tempfile.TemporaryDirectory(prefix="forge-notices-") as directory:
        check_freshness(Path(directory), checks)
    checks.close()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"notices.py: {failure}")
