#!/usr/bin/env python3
"""Compares a command for aarch64 with the command of this machine and with the Python reader.

    python3 tests/deploy/aarch64.py PATH/TO/forge

The command is cross-compiled, without GPUs, into target/aarch64, and runs in qemu. That needs
qemu-user-static, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross, and a Rust compiler with the
standard library of aarch64-unknown-linux-gnu: the one in the PATH or, on Debian, that of the
packages rustc-web and libstd-rust-web-dev:arm64. Emulation shows which bytes come out, and nothing
about speed.
"""

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools import ROOT, Checks, Failure, require, run

TARGET = "aarch64-unknown-linux-gnu"
LINKER = "aarch64-linux-gnu-gcc"
DIRECTORY = ROOT / "target/aarch64"
EMULATORS = ["qemu-aarch64-static", "qemu-aarch64"]
# Instruction sets of an aarch64 CPU, and the reference.
BACKENDS = ["simd-neon", "simd-portable", "scalar"]
# Random envelopes that are compared with the Python reader.
RANDOM_ENVELOPES = 4


def compiler():
    """Returns a Rust compiler that has the target's standard library."""
    for program in ("rustc", "/usr/bin/rustc"):
        if shutil.which(program) is None:
            continue
        directory = run(program, "--print", "target-libdir", "--target", TARGET).strip()
        if Path(directory).is_dir():
            return program
    raise Failure(f"no Rust compiler has {TARGET}; see --help")


def build():
    """Cross-compiles the command and returns its path."""
    linker = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER"
    settings = {"RUSTC": compiler(), "CARGO_TARGET_DIR": str(DIRECTORY), linker: LINKER,
                "CC_aarch64_unknown_linux_gnu": LINKER, "CARGO_INCREMENTAL": "0"}
    command = ["cargo", "build", "--release", "--locked", "-p", "forge", "--no-default-features", "--target", TARGET]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | settings, check=False)
    require(done.returncode == 0, f"{' '.join(command)}: exit status {done.returncode}")
    return DIRECTORY / TARGET / "release/forge"


def write_wrapper(command, directory):
    """Writes a program that emulates `command`."""
    emulators = [found for name in EMULATORS if (found := shutil.which(name))]
    require(emulators, f"none of {', '.join(EMULATORS)} is in the PATH")
    wrapper = directory / "forge-aarch64"
    # A libc of Debian's arm64 packages needs the dynamic linker of its own version; the one for
    # cross-compiling has another.
    prefix = [] if Path("/lib/ld-linux-aarch64.so.1").exists() else ["-L", "/usr/aarch64-linux-gnu"]
    parts = [emulators[0], *prefix, str(command)]
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(parts)} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


def check_backends(emulated, checks):
    devices = json.loads(run(emulated, "devices", "--format", "json"))["devices"]
    require([device["backend"] for device in devices] == BACKENDS, devices)
    require(all(device["usable"] for device in devices), devices)
    checks.ok(f"{', '.join(BACKENDS)} pass their self-test")


def shortened_portfolio(directory):
    """The portfolio of the examples, with fewer years."""
    envelope = json.loads((ROOT / "examples/portfolio.json").read_text())
    envelope["args"]["iterations"] = 100_000
    path = directory / "portfolio.json"
    path.write_text(json.dumps(envelope))
    return path


def check_envelopes(native, emulated, directory, checks):
    for envelope in (ROOT / "examples/insurance.json", ROOT / "examples/eta.json", shortened_portfolio(directory)):
        result = [native, "run", envelope, "--format", "json", "--out", directory / "native"]
        expected = run(*result)
        for backend in BACKENDS:
            found = run(emulated, *result[1:-1], directory / backend, "--backend", backend)
            require(found == expected, f"{envelope} with {backend} differs:\n{expected}\n{found}")
        checks.ok(f"{envelope.name}: the result of {', '.join(BACKENDS)} is that of x86-64, byte for byte")


def check_audits(native, emulated, directory, checks):
    """Each machine executes every shard of the other's jobs again."""
    for auditor, store in ((emulated, "native"), (native, BACKENDS[0])):
        jobs = sorted((directory / store / "jobs").iterdir())
        require(len(jobs) == 3, jobs)
        for job in jobs:
            audit = json.loads(run(auditor, "audit", job, "--full", "--allow-unsigned", "--format", "json"))
            require(audit["verdict"] == "proved", audit)
    checks.ok("aarch64 proves the jobs of x86-64, and x86-64 those of aarch64, shard by shard")


def check_random_envelopes(emulated, checks):
    command = [sys.executable, ROOT / "tests/interop/compare.py", emulated, "--count", RANDOM_ENVELOPES]
    output = run(*command)
    seed = re.search(r"from seed (\d+)", output).group(1)
    checks.ok(f"{RANDOM_ENVELOPES} random envelopes give the bytes of the Python reader (--seed {seed})")


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    if platform.machine() == "aarch64":
        print("this machine is an aarch64: `make unit` and `make interop` test its instruction sets")
        return
    native = Path(sys.argv[1]).resolve()
    command = build()
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="forge-aarch64-") as directory:
        directory = Path(directory)
        emulated = write_wrapper(command, directory)
        check_backends(emulated, checks)
        check_envelopes(native, emulated, directory, checks)
        check_audits(native, emulated, directory, checks)
        check_random_envelopes(emulated, checks)
    checks.close()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"aarch64.py: {failure}")
