#!/usr/bin/env python3
"""Builds the wheel of the Python package for this machine.

    python/wheel.py          builds it optimised in target/dist

maturin has the version and the hash of python/tests/requirements.txt.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/deploy"))
import tools  # noqa: E402

PACKAGE = tools.ROOT / "python"
REQUIREMENTS = PACKAGE / "tests/requirements.txt"
# What the packages of the tests need. The package itself needs 3.10.
OLDEST_PYTHON = (3, 11)


def environment():
    """Returns the programs of the virtual environment with the packages of the tests. It is made
    anew when they change."""
    tools.require(
        sys.version_info >= OLDEST_PYTHON,
        f"needs Python {'.'.join(map(str, OLDEST_PYTHON))}; name one with make PYTHON=…",
    )
    name = f"python-tests-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]}"
    directory = tools.TOOLS / name
    if not directory.is_dir():
        staging = tools.TOOLS / f".staging-{os.getpid()}"
        tools.run(sys.executable, "-m", "venv", staging)
        pip = [staging / "bin/python", "-m", "pip", "install", "--quiet", "--no-input", "--no-deps"]
        tools.run(*pip, "--require-hashes", "--only-binary", ":all:", "--requirement", REQUIREMENTS)
        staging.rename(directory)
    return directory / "bin"


def build(out, *options):
    """Builds the wheel in a folder and returns its path."""
    command = [environment() / "python", "-m", "maturin", "build", "--locked"]
    command += ["--manifest-path", PACKAGE / "Cargo.toml", "--out", out, *options]
    subprocess.run(command, check=True, cwd=tools.ROOT)
    (wheel,) = Path(out).glob("forge_kernel-*-cp310-abi3-*.whl")
    return wheel


if __name__ == "__main__":
    if len(sys.argv) != 1:
        sys.exit(__doc__)
    try:
        print(build(tools.ROOT / "target/dist", "--release", "--strip"))
    except (tools.Failure, subprocess.CalledProcessError) as failure:
        sys.exit(f"wheel.py: {failure}")
