#!/usr/bin/env python3
"""Follows the tutorials that need no server as a reader would: runs their commands and compares the
output.

Usage: tutorials.py FORGE

In a ```console block, a line `$ command` is run by bash, in one temporary directory per tutorial. A
command that ends with a backslash goes on in the next line. The lines below it are the output that
the reader is promised; `…` stands for any text, and a line `…` for any lines. `<!-- file: NAME -->`
before a code block stores that block as a file; `<!-- copy: PATH -->` copies a file of the
repository. Every command must exit with 0.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ["docs/start/actuary.md", "docs/start/reinsurer.md", "docs/start/auditor.md", "docs/guides/portfolios.md",
             "docs/guides/explain.md", "docs/guides/tables.md"]


def steps(text):
    """The steps of a tutorial in order: ("file", name, content), ("copy", path) or ("run", line, command, output)."""
    lines = text.splitlines()
    at, name = 0, None
    while at < len(lines):
        line = lines[at]
        at += 1
        if directive := re.match(r"<!-- (file|copy): (.+) -->", line):
            if directive[1] == "copy":
                yield "copy", directive[2]
            else:
                name = directive[2]
        elif line.startswith("```") and len(line) > 3:
            end = lines.index("```", at)
            block, start = lines[at:end], at + 1
            at = end + 1
            if name:
                yield "file", name, "\n".join(block) + "\n"
                name = None
            elif line == "```console":
                yield from commands(block, start)


def commands(block, start):
    at = 0
    while at < len(block):
        number, command = start + at, block[at].removeprefix("$ ")
        assert block[at].startswith("$ "), f"line {number}: output without a command"
        at += 1
        while command.endswith("\\"):
            command += "\n" + block[at]
            at += 1
        end = next((i for i in range(at, len(block)) if block[i].startswith("$ ")), len(block))
        yield "run", number, command, block[at:end]
        at = end


def pattern(expected):
    """A regular expression for promised output."""
    parts = [r"(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + "\n" for line in expected]
    return re.compile("".join(parts))


def follow(name, forge):
    ran = 0
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, PATH=f"{forge.parent}{os.pathsep}{os.environ['PATH']}", NO_COLOR="1")
        for step in steps((ROOT / name).read_text()):
            if step[0] == "file":
                Path(folder, step[1]).write_text(step[2])
                continue
            if step[0] == "copy":
                Path(folder, Path(step[1]).name).write_bytes((ROOT / step[1]).read_bytes())
                continue
            _, number, command, expected = step
            done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, text=True, check=False,
                                  stdin=subprocess.DEVNULL, capture_output=True)
            ran += 1
            if done.returncode != 0:
                sys.exit(f"{name}:{number}: `{command}` exits with {done.returncode}\n{done.stdout}{done.stderr}")
            if not pattern(expected).fullmatch(done.stdout):
                promised = "\n".join(expected)
                sys.exit(f"{name}:{number}: `{command}` does not print what is promised\n"
                         f"--- promised\n{promised}\n--- printed\n{done.stdout}")
    assert ran, f"{name} holds no command"
    return ran


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    forge = Path(sys.argv[1]).resolve()
    assert pattern(["a…", "…", "c"]).fullmatch("ab\nx\ny\nc\n") and not pattern(["a", "c"]).fullmatch("a\nb\nc\n")
    for name in TUTORIALS:
        print(f"{name}: {follow(name, forge)} commands, each as promised", flush=True)


if __name__ == "__main__":
    main()
