#!/usr/bin/env python3
"""Tests deploy/sbom.py: it lists exactly what cargo would compile, and refuses invalid documents.

    tests/deploy/sbom.py

The linked crates are compared with cargo's plan of the Dockerfile's build; nothing is compiled.
Packages come from a synthetic /var/lib/dpkg/status, once as a file and once from an image of a fake
docker.
"""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

from tools import ROOT, Checks, Failure, require, run

SBOM = ROOT / "deploy/sbom.py"
CRATE = re.compile("pkg:(cargo|generic)/")
TARGET = "x86_64-unknown-linux-gnu"
# The features of the Dockerfile, repeated here as the expectation.
FEATURES = {
    "cpu": ["--no-default-features", "--features", "columnar,console,object-lock,xlsx"],
    "gpu": ["--features", "columnar,console,object-lock,xlsx"],
}
# Dependencies of tests only.
FOR_TESTS = {"forge-harness", "jsonschema", "proptest", "rcgen", "dashu-float", "rand_distr"}
# Dependencies of Object Lock only.
FOR_OBJECT_LOCK = {"aws-sdk-s3", "aws-smithy-http-client"}

STATUS = """\
Package: ca-certificates
Status: install ok installed
Architecture: all
Version: 20230311+deb12u1
Description: Common CA certificates
 Contains more than one line.

Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u14
Description: GNU C Library: Shared libraries

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: libgcc-s1
Status: install ok installed
Architecture: amd64
Source: gcc-12 (12.2.0-14+deb12u1)
Version: 12.2.0-14+deb12u1
Description: GCC support library
"""
VULKAN = """
Package: libvulkan1
Status: install ok installed
Architecture: amd64
Source: vulkan-loader
Version: 1.3.239.0-1
"""
RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'
DOCKER = """\
#!/bin/sh
# A fake docker with one image.
case "$1" in
  image) echo sha256:0123 ;;
  create) [ "$2" = forge:made-up ] && echo container ;;
  cp) tar -cf - -C {directory}/image "${{2#container:/}}" ;;
  rm) touch {directory}/removed ;;
esac
"""


def sbom(directory, *arguments, check=True, **variables):
    """Writes a document and returns its bytes, or the failed process."""
    output = directory / "forge.cdx.json"
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    done = run(sys.executable, SBOM, "--output", output, *arguments, env=dict(environment, **variables), check=check)
    return output.read_bytes() if check else done


def crates(document, *scopes):
    """Returns the dependencies of `forge` with one of these scopes."""
    return {
        (component["name"], component["version"])
        for component in document["components"]
        if CRATE.match(component.get("purl", "")) and component["scope"] in scopes
    }


def planned(features, target=TARGET, package="forge"):
    """Returns the crates that cargo's build plan links into a package's binary or library."""
    command = ["cargo", "build", "--unit-graph", "-Z", "unstable-options", "--locked", "--release", "-p", package]
    # Build plans are a nightly feature; this variable enables it on stable.
    environment = dict(os.environ, RUSTC_BOOTSTRAP="1")
    graph = json.loads(run(*command, "--target", target, *features, cwd=ROOT, env=environment))
    found, todo = set(), list(graph["roots"])
    while todo:
        index = todo.pop()
        if index in found:
            continue
        found.add(index)
        below = [entry["index"] for entry in graph["units"][index]["dependencies"]]
        todo += [i for i in below if not {"proc-macro", "custom-build"} & set(graph["units"][i]["target"]["kind"])]

    def crate(pkg_id):
        place, fragment = pkg_id.split("#")
        return tuple(fragment.split("@")) if "@" in fragment else (place.rsplit("/", 1)[1], fragment)

    return {crate(graph["units"][index]["pkg_id"]) for index in found} - {forge()}


def listed(features):
    """Returns the crates that `cargo tree` lists."""
    command = ["cargo", "tree", "--locked", "-p", "forge", "-e", "normal", "--prefix", "none", "--target", TARGET]
    lines = run(*command, *features, cwd=ROOT).splitlines()
    return {(line.split()[0], line.split()[1].lstrip("v")) for line in lines} - {forge()}


def forge():
    return "forge", re.search(r'^version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)


def check_crates(document, variant, checks):
    """Checks that a document's crates are those of its variant's build."""
    features = FEATURES[variant]
    linked, plan = crates(document, "required"), planned(features)
    require(linked == plan, f"{variant}: {sorted(linked ^ plan)}")
    everything, tree = crates(document, "required", "excluded"), listed(features)
    require(everything == tree, f"{variant}: {sorted(everything ^ tree)}")
    names = {name for name, _ in everything}
    require(not names & FOR_TESTS, f"{variant}: lists test dependencies {names & FOR_TESTS}")
    require(names >= FOR_OBJECT_LOCK, f"{variant}: dependencies of Object Lock are missing")
    require(("wgpu" in names) == (variant == "gpu"), f"{variant}: wgpu")
    check_details(document)
    check_graph(document)
    checks.ok(f"{variant}: {len(linked)} crates linked as in the build plan, {len(everything)} with macros")


def check_other_features(directory, checks):
    document = json.loads(sbom(directory, "--variant", "gpu", "--features", ""))
    names = {name for name, _ in crates(document, "required", "excluded")}
    require(not names & FOR_OBJECT_LOCK and "wgpu" in names, f"{names & FOR_OBJECT_LOCK}")
    require(crates(document, "required") == planned([]), "without Object Lock, the crates differ from the build plan")
    require(len(document["components"]) == len(crates(document, "required", "excluded")), "lists more than crates")
    checks.ok("without Object Lock: no AWS SDK; without an image: no packages")


def check_details(document):
    """Checks that each crate has a licence and, unless it is of this workspace, crates.io data."""
    lock = (ROOT / "Cargo.lock").read_text()
    for component in document["components"]:
        if not CRATE.match(component.get("purl", "")):
            continue
        name, version = component["name"], component["version"]
        require(component["licenses"], f"{name} has no licence")
        if name.startswith("forge-"):
            require(component["purl"] == f"pkg:generic/{name}@{version}" and "hashes" not in component, f"{component}")
            continue
        require(component["purl"] == f"pkg:cargo/{name}@{version.replace('+', '%2B')}", f"{component}")
        (entry,) = component["hashes"]
        block = f'name = "{name}"\nversion = "{version}"\nsource = "registry+'
        (_, after) = lock.split(block)
        require(f'checksum = "{entry["content"]}"' in after.split("\n\n")[0], f"{name} has another checksum in Cargo.lock")
    root = document["metadata"]["component"]
    require((root["name"], root["version"]) == forge() and root["type"] == "application", f"{root}")
    require(root["licenses"] == [{"license": {"id": "Apache-2.0"}}], f"{root}")


def check_graph(document):
    """Checks that every component is a transitive dependency of `forge`."""
    below = {entry["ref"]: entry.get("dependsOn", []) for entry in document["dependencies"]}
    found, todo = set(), [document["metadata"]["component"]["bom-ref"]]
    while todo:
        reference = todo.pop()
        if reference not in found:
            found.add(reference)
            todo += below.get(reference, [])
    absent = {component["bom-ref"] for component in document["components"]} - found
    require(not absent, f"unreachable components: {sorted(absent)}")


def check_packages(directory, checks):
    status, release = directory / "status", directory / "os-release"
    status.write_text(STATUS)
    release.write_text(RELEASE)
    files = ["--dpkg-status", status, "--os-release", release]
    first = sbom(directory, *files)
    document = json.loads(first)
    purls = {c["purl"] for c in document["components"] if c.get("purl", "").startswith("pkg:deb/")}
    expected = {
        "pkg:deb/debian/ca-certificates@20230311%2Bdeb12u1?arch=all&distro=debian-12",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64&distro=debian-12&upstream=glibc",
        "pkg:deb/debian/libgcc-s1@12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12&upstream=gcc-12%4012.2.0-14%2Bdeb12u1",
    }
    require(purls == expected, f"{sorted(purls)}")
    require("timestamp" not in document["metadata"] and "serialNumber" not in document, "a time or a number")
    checks.ok("lists installed packages of a dpkg status, not removed ones")
    check_crates(document, "cpu", checks)

    require(sbom(directory, *files, PYTHONHASHSEED="1") == first, "a second run gives a different document")
    later = json.loads(sbom(directory, *files, SOURCE_DATE_EPOCH="1700000000"))
    require(later["metadata"].pop("timestamp") == "2023-11-14T22:13:20+00:00" and later == document, "SOURCE_DATE_EPOCH")
    checks.ok("reproducible bytes; a timestamp only with SOURCE_DATE_EPOCH")

    status.write_text(STATUS + VULKAN)
    check_crates(json.loads(sbom(directory, *files)), "gpu", checks)
    listed = crates(json.loads(sbom(directory, *files, "--variant", "cpu")), "required", "excluded")
    require(listed == crates(document, "required", "excluded"), "--variant is ignored")
    status.write_text("no package\n")
    wrong = sbom(directory, *files, check=False)
    require(wrong.returncode == 1 and "no installed package" in wrong.stderr, wrong.stderr)
    checks.ok(
        "an image for GPUs is told by its packages, unless --variant says otherwise; what is no status of dpkg is refused"
    )

    (directory / "image/var/lib/dpkg").mkdir(parents=True)
    (directory / "image/usr/lib").mkdir(parents=True)
    (directory / "image/var/lib/dpkg/status").write_text(STATUS)
    (directory / "image/usr/lib/os-release").write_text(RELEASE)
    (directory / "bin").mkdir()
    (directory / "bin/docker").write_text(DOCKER.format(directory=directory))
    (directory / "bin/docker").chmod(0o755)
    path = f"{directory}/bin:{os.environ['PATH']}"
    image = json.loads(sbom(directory, "--image", "forge:made-up", PATH=path))
    properties = {entry["name"]: entry["value"] for entry in image["metadata"]["component"]["properties"]}
    require(properties["forge:image"] == "forge:made-up" and properties["forge:image-id"] == "sha256:0123", properties)
    require(image["components"] == document["components"], "an image and its dpkg status give different packages")
    require((directory / "removed").exists(), "the container is not removed")
    checks.ok("the same packages from an image; its container is removed")
    return first


def check_refused(directory, good, checks):
    """Returns documents with one fault each."""

    def broken(change):
        document = json.loads(good)
        change(document)
        return json.dumps(document)

    cases = {
        "not JSON": good.decode()[:-10],
        "unknown": broken(lambda d: d.update(unknown=1)),
        "'librarry'": broken(lambda d: d["components"][0].update(type="librarry")),
        "'12'": broken(lambda d: d["components"][0]["hashes"][0].update(content="12")),
        "'name' is a required property": broken(lambda d: d["components"][0].pop("name")),
        "twice": broken(lambda d: d["components"].append(dict(d["components"][0], name="other"))),
        "what is not there": broken(lambda d: d["components"].pop(0)),
        "what it is about": broken(lambda d: d["metadata"].pop("component")),
    }
    paths = [directory / f"case-{number}.json" for number in range(len(cases))]
    for path, text in zip(paths, cases.values()):
        path.write_text(text)
    (directory / "good.json").write_bytes(good)
    run(sys.executable, SBOM, "--check", directory / "good.json")
    done = run(sys.executable, SBOM, "--check", *paths, directory / "good.json", check=False)
    require(done.returncode == 1 and "Traceback" not in done.stderr and "good.json" not in done.stderr, done.stderr)
    for path, word in zip(paths, cases):
        (reason,) = re.findall(rf"{path}: (.*)", done.stderr) or [""]
        require(word in reason, f"not refused for {word}: {done.stderr}")
    checks.ok(f"{len(cases)} invalid documents are refused")


def main():
    if len(sys.argv) != 1:
        sys.exit(__doc__)
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="forge-sbom-") as directory:
        directory = Path(directory)
        good = check_packages(directory, checks)
        check_other_features(directory, checks)
        check_refused(directory, good, checks)
    checks.close()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"sbom.py: {failure}")
