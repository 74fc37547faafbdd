#!/usr/bin/env python3
"""Checks .github/workflows with actionlint, and that every make target they call exists."""

import re
import shutil
import sys

from tools import ACTIONLINT, ROOT, Checks, Failure, require, run, wheel_program


def main():
    checks = Checks()
    program = shutil.which("actionlint") or wheel_program(ACTIONLINT, "actionlint")
    workflows = sorted((ROOT / ".github/workflows").glob("*.yml"))
    run(program, *workflows, cwd=ROOT)
    checks.ok(f"actionlint: {', '.join(path.name for path in workflows)}")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in workflows:
        called = set(re.findall(r"\bmake (?:--silent )?([a-z-]+)", re.sub(r"#.*", "", path.read_text())))
        require(called and called <= targets, f"{path.name} calls unknown targets: {sorted(called - targets)}")
        checks.ok(f"{path.name}: the make targets {', '.join(sorted(called))} exist")
    checks.close()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"not ok: {failure}")
