#!/usr/bin/env python3
"""Writes the contents of the image as CycloneDX 1.6: the crates of `forge` and the Debian packages.

    deploy/sbom.py --output target/sbom/forge.cdx.json --image forge:cpu
    deploy/sbom.py --check target/sbom/forge.cdx.json

The crates are those that cargo resolves for the Dockerfile's features of the variant. Crates linked
into the binary have the scope `required`. Procedural macros, which only the compiler executes, and
their own dependencies have the scope `excluded`. Crates of build scripts and tests are omitted.
Debian packages are read from the image with docker or podman, or from a copy of its
/var/lib/dpkg/status. The same input gives the same bytes: there is no serial number, and no
timestamp without SOURCE_DATE_EPOCH.
"""

import argparse
import datetime
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/deploy"))

from tools import CYCLONEDX, TOOLS, Failure, environment, require, run

try:
    TOOLS.mkdir(parents=True, exist_ok=True)
    PYTHON = environment(CYCLONEDX) / "bin/python"
except Failure as failure:
    sys.exit(f"sbom.py: {failure}")
if Path(sys.prefix).resolve() != PYTHON.parent.parent.resolve():
    # Restart in the virtual environment that has the library.
    os.execv(PYTHON, [str(PYTHON), *sys.argv])

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

# Rust's target of each Debian architecture.
TARGETS = {"amd64": "x86_64-unknown-linux-gnu", "arm64": "aarch64-unknown-linux-gnu"}
# A package that only the GPU image has.
GPU_PACKAGE = "libvulkan1"


def image_features(variant):
    """Returns the cargo arguments with which the Dockerfile builds a variant."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    stage = re.search(rf"^FROM \S+ AS build-{variant}$(.*?)(?=^FROM |\Z)", dockerfile, re.M | re.S)
    require(stage, f"the Dockerfile has no stage build-{variant}")
    features = re.search(r"^ARG FEATURES=(\S*)$", stage.group(1), re.M)
    build = re.search(r"cargo build .*-p forge .*", stage.group(1))
    require(features and build, f"the stage build-{variant} of the Dockerfile does not state the features")
    arguments = ["--features", features.group(1)] if features.group(1) else []
    return arguments + (["--no-default-features"] if "--no-default-features" in build.group() else [])


def tree(features, target, edges, package="forge"):
    """Returns the dependencies of a package: (name, version) to the crates that it needs."""
    # `cargo metadata` cannot be used: it unites the features of all members of the workspace,
    # tests included.
    command = ["cargo", "tree", "--locked", "--package", package, "--target", target, "--edges", edges, *features]
    needs, path = {}, []
    for line in run(*command, "--prefix", "depth", "--format", "|{p}", cwd=ROOT).splitlines():
        depth, name, version = re.match(r"(\d+)\|(\S+) v(\S+)", line).groups()
        del path[int(depth) :]
        crate = (name, version)
        needs.setdefault(crate, set())
        if path:
            needs[path[-1]].add(crate)
        path.append(crate)
    return needs


def crate_details(target):
    """Returns what manifests and Cargo.lock state of the workspace's crates and their dependencies.
    """
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target, "--all-features"]
    details = {
        (package["name"], package["version"]): package for package in json.loads(run(*command, cwd=ROOT))["packages"]
    }
    for block in (ROOT / "Cargo.lock").read_text().split("[[package]]\n")[1:]:
        locked = dict(re.findall(r'^(\w+) = "([^"]*)"$', block, re.M))
        if "checksum" in locked and (locked["name"], locked["version"]) in details:
            details[locked["name"], locked["version"]]["checksum"] = locked["checksum"]
    return details


def crate_component(crate, details, scope):
    name, version = crate
    package = details[crate]
    # Crates of this workspace have names that belong to other crates on crates.io.
    purl = PackageURL("cargo" if package["source"] else "generic", name=name, version=version)
    # Old manifests write a slash where SPDX writes OR.
    expression = re.sub(r"\s*/\s*", " OR ", package["license"] or "")
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        description=" ".join(package["description"].split()) if package["description"] else None,
        scope=scope,
        bom_ref=str(purl),
        purl=purl,
        licenses=[LicenseFactory().make_from_string(expression)] if expression else [],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=package["checksum"])] if "checksum" in package else [],
    )


def fields(paragraph):
    """Returns the single-line fields of a paragraph of a Debian control file."""
    return dict(re.findall(r"^([A-Za-z-]+): *(.*)$", paragraph, re.M))


def packages_of(status):
    """Returns the installed packages of a /var/lib/dpkg/status."""
    paragraphs = [fields(paragraph) for paragraph in re.split(r"\n\s*\n", status) if paragraph.strip()]
    found = [package for package in paragraphs if package.get("Status", "").split()[-1:] == ["installed"]]
    require(found, "no installed package in the status of dpkg")
    for package in found:
        require({"Package", "Version", "Architecture"} <= package.keys(), f"not a package of dpkg: {package}")
    return found


def package_component(package, release):
    qualifiers = {"arch": package["Architecture"]}
    if "ID" in release and "VERSION_ID" in release:
        qualifiers["distro"] = f"{release['ID']}-{release['VERSION_ID']}"
    # Debian's advisories are about source packages: `glibc`, or `glibc (2.36-9)` if its version
    # differs.
    source = package.get("Source", "").split()
    if source:
        qualifiers["upstream"] = "@".join(part.strip("()") for part in source)
    purl = PackageURL("deb", "debian", package["Package"], package["Version"], qualifiers)
    return Component(
        type=ComponentType.LIBRARY,
        name=package["Package"],
        version=package["Version"],
        description=package.get("Description"),
        scope=ComponentScope.REQUIRED,
        bom_ref=str(purl),
        purl=purl,
    )


def release_of(text):
    """Returns the variables of an /etc/os-release."""
    return dict(re.findall(r"^([A-Z_]+)=\"?([^\"\n]*)\"?$", text, re.M))


class Image:
    """An image of docker or podman. Its files are copied from a container that is never started."""

    def __init__(self, name):
        programs = [program for program in ("docker", "podman") if shutil.which(program)]
        require(programs, "neither docker nor podman is there to read an image with")
        self.program, self.name = programs[0], name
        self.id = run(self.program, "image", "inspect", "--format", "{{.Id}}", name).strip()

    def files(self, *paths):
        container = run(self.program, "create", self.name).strip().splitlines()[-1]
        try:
            return [self.file(container, path) for path in paths]
        finally:
            run(self.program, "rm", container)

    def file(self, container, path):
        done = subprocess.run(
            [self.program, "cp", f"{container}:{path}", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        require(done.returncode == 0, f"{path} of {self.name}: {done.stderr.decode(errors='replace')}")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            (member,) = archive.getmembers()
            return archive.extractfile(member).read().decode()


def make(variant, target, image_name, image_id, packages, release, features):
    """Returns the document as an object of the library."""
    everything = tree(features, target, "normal")
    linked = tree(features, target, "normal,no-proc-macro")
    details = crate_details(target)
    forge = next(crate for crate in everything if crate[0] == "forge")
    properties = {"variant": variant, "target": target, "features": " ".join(features)}
    properties.update({"image": image_name} if image_name else {}, **({"image-id": image_id} if image_id else {}))
    root = crate_component(forge, details, None)
    root.type = ComponentType.APPLICATION
    root.properties = [Property(name=f"forge:{name}", value=value) for name, value in properties.items()]
    bom = Bom(metadata=BomMetaData(component=root, timestamp=timestamp()))
    components = {forge: root}
    for crate in everything.keys() - {forge}:
        scope = ComponentScope.REQUIRED if crate in linked else ComponentScope.EXCLUDED
        components[crate] = crate_component(crate, details, scope)
    for crate, below in everything.items():
        bom.register_dependency(components[crate], [components[other] for other in below])
    del components[forge]
    bom.components = list(components.values())
    if packages:
        name = release.get("ID", "debian")
        version = release.get("VERSION_ID")
        system = Component(
            type=ComponentType.OPERATING_SYSTEM, name=name, version=version, bom_ref=f"{name}-{version or 'unknown'}"
        )
        around = [package_component(package, release) for package in packages]
        bom.components.update([system, *around])
        bom.register_dependency(root, [system])
        bom.register_dependency(system, around)
    return to_text(bom)


def timestamp():
    """Returns the time of SOURCE_DATE_EPOCH, or None."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc) if epoch else None


def to_text(bom):
    """Returns the validated document as text."""
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    # The library always writes a random serial number and the current time.
    del document["serialNumber"]
    if timestamp() is None:
        del document["metadata"]["timestamp"]
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    validate(text)
    return text


def validate(text):
    """Validates a document strictly against the schema, and its references against its components.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Failure(f"not JSON: {error}") from error
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    require(error is None, f"not CycloneDX 1.6: {str(error)[:500]}")
    require("component" in document.get("metadata", {}), "the document does not say what it is about")
    known = [document["metadata"]["component"]["bom-ref"]]
    known += [component["bom-ref"] for component in document.get("components", [])]
    require(len(known) == len(set(known)), "a component stands there twice")
    for entry in document.get("dependencies", []):
        absent = {entry["ref"], *entry.get("dependsOn", [])} - set(known)
        require(not absent, f"dependencies name what is not there: {sorted(absent)}")


def check(paths):
    """Validates existing documents. Reports the faults of all of them before it fails."""
    errors = []
    for path in paths:
        try:
            validate(path.read_text())
        except Failure as failure:
            errors.append(f"{path}: {failure}")
    require(not errors, "\n".join(errors))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write the document")
    parser.add_argument("--check", type=Path, metavar="FILE", nargs="+", help="only validate documents that are there")
    parser.add_argument("--variant", choices=("cpu", "gpu"), help="default: gpu for an image with libvulkan1, else cpu")
    parser.add_argument(
        "--features", metavar="LIST", help="in place of those of the Dockerfile, as --build-arg FEATURES"
    )
    parser.add_argument("--target", choices=sorted(TARGETS.values()), help="default: the image's, or x86_64")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--image", metavar="NAME", help="an image of docker or podman, for its Debian packages")
    where.add_argument("--dpkg-status", type=Path, metavar="FILE", help="a copy of its /var/lib/dpkg/status instead")
    parser.add_argument("--os-release", type=Path, metavar="FILE", help="with --dpkg-status: its /etc/os-release")
    arguments = parser.parse_args()
    if (arguments.output is None) == (arguments.check is None):
        parser.error("one of --output and --check is needed")
    if arguments.check:
        check(arguments.check)
        return
    image_id, status, release = None, None, {}
    if arguments.image:
        image = Image(arguments.image)
        image_id = image.id
        status, release = image.files("/var/lib/dpkg/status", "/usr/lib/os-release")
        release = release_of(release)
    elif arguments.dpkg_status:
        status = arguments.dpkg_status.read_text()
        release = release_of(arguments.os_release.read_text()) if arguments.os_release else {}
    packages = packages_of(status) if status is not None else []
    variant, target = arguments.variant or "cpu", arguments.target or TARGETS["amd64"]
    if packages:
        found = "gpu" if any(package["Package"] == GPU_PACKAGE for package in packages) else "cpu"
        variant = arguments.variant or found
        # Packages for all architectures aside, all packages must have the same one.
        targets = {TARGETS[p["Architecture"]] for p in packages if p["Architecture"] in TARGETS}
        require(len(targets) == 1, f"packages for {sorted(targets)}: which machine is the image for?")
        require(arguments.target in (None, *targets), f"the packages are for {targets}")
        (target,) = targets
    features = image_features(variant)
    if arguments.features is not None:
        rest = [part for part in features if part == "--no-default-features"]
        features = (["--features", arguments.features] if arguments.features else []) + rest
    text = make(variant, target, arguments.image, image_id, packages, release, features)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text)
    crates = text.count('"purl": "pkg:cargo/') + text.count('"purl": "pkg:generic/')
    print(f"{arguments.output}: {crates} crates and {len(packages)} Debian packages, CycloneDX 1.6, variant {variant}")


if __name__ == "__main__":
    try:
        main()
    except (Failure, OSError) as failure:
        sys.exit(f"sbom.py: {failure}")
