"""A cluster to attack: a nats-server under deploy/nats/nats-server.conf and the services as
processes, each with the credential of its role. Everything listens on loopback only.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import nats
import nats.errors

from messages import Key, result_subject, shard_result, signed_result

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIGURATION = ROOT / "deploy" / "nats" / "nats-server.conf"
ROLES = ["client", "planner", "worker", "worker-gpu", "verifier", "aggregator"]
SERVICES = ("planner", "aggregator", "verifier", "worker")
TERMINAL = ("completed", "failed", "cancelled")
# The pool whose name the credential `worker` may use.
POOL = "default"


class Failure(Exception):
    """The attack succeeded, or the cluster did not work."""


def require(condition, message):
    if not condition:
        raise Failure(message)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def insurance(job, iterations, policy=None, seed="attacks", **args):
    """An envelope without marks, so that shard_result can imitate its results."""
    model = {"iterations": iterations, "claim_freq": 2.0, "claim_severity_mu": 6.0, "claim_severity_sig": 1.0}
    return {
        "ctx": {"job_id": job},
        "op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
        "args": {**model, **args},
        "policy": policy or {},
        "seed": {"mode": "explicit", "value": seed},
        "artifacts": {"include": ["result_json", "executions_json", "verification_json"]},
    }


def with_second_pool(configuration):
    """The configuration with a user `worker-b` for workers of the pool `b`, as its comments say."""
    start = configuration.index("      {\n        user: worker\n")
    end = configuration.index("\n      }\n", start) + len("\n      }\n")
    block = configuration[start:end]
    for old, new in (
        ("user: worker", "user: worker-b"),
        ("$FORGE_WORKER_PASSWORD", "worker-b-secret"),
        ("_INBOX_worker.", "_INBOX_worker-b."),
        (f"quarantined-pools.{POOL}", "quarantined-pools.b"),
        (f"forge_workers.{POOL}.", "forge_workers.b."),
        (f"results.{POOL}.", "results.b."),
    ):
        require(old in block, f"the block of the user worker does not contain {old}")
        block = block.replace(old, new)
    return configuration[:end] + block + configuration[end:]


def with_operator(configuration):
    """The configuration with its optional user `operator`."""
    start = configuration.index("      # {\n      #   user: operator\n")
    end = configuration.index("      # }\n", start) + len("      # }\n")
    lines = (line.replace("      # ", "      ", 1) for line in configuration[start:end].splitlines(keepends=True))
    block = "".join(lines).replace("$FORGE_OPERATOR_PASSWORD", "operator-secret")
    return configuration[:start] + block + configuration[end:]


def with_submitter(configuration, name):
    """The configuration with a client `client-<name>` that is tied to a submitter."""
    start = configuration.index("      {\n        user: client\n")
    end = configuration.index("\n      }\n", start) + len("\n      }\n")
    block = configuration[start:end]
    endpoints = [f"submit.{name}", "status", "list", "cancel"]
    for old, new in (
        ("user: client", f"user: client-{name}"),
        ("$FORGE_CLIENT_PASSWORD", f"client-{name}-secret"),
        ("_INBOX_client.", f"_INBOX_client-{name}."),
        ('"forge.v1.jobs.submit"', f'"forge.v1.jobs.submit.{name}"'),
        ('"forge.v1.api.*"', ", ".join(f'"forge.v1.api.{endpoint}"' for endpoint in endpoints)),
    ):
        require(old in block, f"the block of the user client does not contain {old}")
        block = block.replace(old, new)
    return configuration[:end] + block + configuration[end:]


class Cluster:
    """Use it as a context manager: it stops what it has started."""

    def __init__(self, forge, nats_server, configuration=None, environment=None):
        self.forge, self.nats_server = forge, nats_server
        self.directory = Path(tempfile.mkdtemp(prefix="forge-attack-"))
        self.store = self.directory / "store"
        self.environment = {"FORGE_LEASE_MS": "2000", "FORGE_THREADS": "2", **(environment or {})}
        self.processes = {}
        self.port = free_port()
        self._start_nats(configuration or CONFIGURATION.read_text())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in reversed(list(self.processes)):
            self.stop(name)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _start_nats(self, configuration):
        path = self.directory / "nats-server.conf"
        path.write_text(configuration)
        passwords = {f"FORGE_{role.upper().replace('-', '_')}_PASSWORD": f"{role}-secret" for role in ROLES}
        self._spawn(
            "nats",
            [self.nats_server, "-a", "127.0.0.1", "-p", str(self.port), "-c", path],
            {"FORGE_NATS_DATA": str(self.directory / "jetstream"), **passwords},
        )
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Failure(f"nats-server does not start: {self.log('nats')}")

    def _spawn(self, name, command, environment):
        with open(self.directory / f"{name}.log", "a") as log:
            self.processes[name] = subprocess.Popen(
                [str(part) for part in command],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )

    def _role(self, role):
        return {
            "FORGE_NATS_URL": f"nats://127.0.0.1:{self.port}",
            "FORGE_NATS_USER": role,
            "FORGE_NATS_PASSWORD": f"{role}-secret",
            "FORGE_NATS_INBOX_PREFIX": f"_INBOX_{role}",
            "FORGE_STORE": str(self.store),
            **self.environment,
        }

    def start(self, *services):
        """Starts services and waits until each is ready."""
        for service in services:
            self._start(service, service, {})
        return self

    def start_worker(self, user, pool):
        """Starts a worker with the credential of another user."""
        self._start(user, "worker", {"FORGE_POOL": pool})

    def _start(self, user, service, environment):
        arguments = ["--backend", "scalar"] if service == "worker" else []
        self._spawn(user, [self.forge, service, *arguments], {**self._role(user), **environment})
        for _ in range(400):
            if "the service is ready" in self.log(user):
                return
            time.sleep(0.05)
        raise Failure(f"{user} does not become ready: {self.log(user)[-2000:]}")

    def stop(self, name):
        process = self.processes.pop(name, None)
        if process:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def is_running(self, name):
        return self.processes[name].poll() is None

    def restart(self, *services):
        """Ends services with SIGKILL and starts them again."""
        for service in services:
            self.stop(service)
            (self.directory / f"{service}.log").rename(self.directory / f"{service}.{time.monotonic_ns()}.log")
        return self.start(*services)

    def memory(self, name):
        """Resident memory of a process in MiB."""
        status = Path(f"/proc/{self.processes[name].pid}/status").read_text()
        return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    def log(self, name):
        path = self.directory / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def run(self, *arguments, input=None, timeout=60, role="client"):
        """Runs a command with a role's credential."""
        return subprocess.run(
            [str(self.forge), *map(str, arguments)],
            env={**os.environ, **self._role(role)},
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=self.directory,
        )

    def submit(self, envelope):
        done = self.run("submit", "-", "--format", "json", input=json.dumps(envelope))
        require(done.returncode == 0, f"submitting failed: {done.stderr}")
        return json.loads(done.stdout)

    def record(self, job):
        done = self.run("status", job, "--format", "json")
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def wait(self, job, seconds=45):
        """Waits until a job has ended, and returns its record."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            record = self.record(job)
            if record.get("state") in TERMINAL:
                return record
            time.sleep(0.1)
        logs = "\n".join(f"--- {name}\n{self.log(name)[-1500:]}" for name in self.processes)
        raise Failure(f"{job} has not ended after {seconds} s: {record}\n{logs}")

    def expect_correct(self, envelope, seconds=45):
        """Waits for a job and requires the result that `forge run` computes. Returns its record."""
        record = self.wait(envelope["ctx"]["job_id"], seconds)
        require(record["state"] == "completed", f"the job ended as {record['state']}: {record.get('error')}")
        bare = {**envelope, "policy": {}, "artifacts": {"persist": False}}
        local = self.run("run", "-", "--format", "json", input=json.dumps(bare), timeout=120)
        require(local.returncode == 0, f"forge run failed: {local.stderr}")
        expected = json.loads(local.stdout)["output"]
        for name, value in record["headline"].items():
            require(value == expected[name], f"wrong result: {name} is {value}, not {expected[name]}")
        return record

    def document(self, record, name):
        """Reads an artifact of a job."""
        reference = next(artifact for artifact in record["artifacts"] if artifact["name"] == name)
        return json.loads((self.store / "artifacts" / "sha256" / reference["sha256"] / name).read_text())

    async def connect(self, role, retry=True):
        """Connects with a role's credential. `errors` of the connection collects the server's."""
        errors = []

        async def collect(error):
            errors.append(str(error))

        connection = await nats.connect(
            f"nats://127.0.0.1:{self.port}",
            user=role,
            password=f"{role}-secret",
            inbox_prefix=f"_INBOX_{role}".encode(),
            error_cb=collect,
            allow_reconnect=retry,
        )
        connection.errors = errors
        return connection

    async def stream_state(self, stream, filter=""):
        """The state of a stream, with the subjects that match a filter."""
        return (await self._inspect(f"STREAM.INFO.{stream}", {"subjects_filter": filter}))["state"]

    async def queue_state(self, queue="workers-any"):
        """The state of a queue of shards."""
        return await self._inspect(f"CONSUMER.INFO.FORGE_SHARDS.{queue}", {})

    async def _inspect(self, request, body):
        """Sends a request to JetStream with the aggregator's credential."""
        connection = await self.connect("aggregator")
        reply = await connection.request(f"$JS.API.{request}", json.dumps(body).encode(), timeout=10)
        await connection.close()
        return json.loads(reply.data)


class Worker:
    """A dishonest worker: it has the credential of the role `worker`, or of a user like it, and
    nothing else.
    """

    def __init__(self, cluster, queues=("workers-any", "workers-any-long"), user="worker", pool=POOL):
        self.cluster, self.queues, self.user, self.pool = cluster, queues, user, pool
        self.components = {}

    async def open(self):
        self.connection = await self.cluster.connect(self.user)
        self.inbox = self.connection.new_inbox()
        self.pulls = 0
        self.replies = await self.connection.subscribe(f"{self.inbox}.*")
        return self

    async def pull(self, batch=1, seconds=5):
        """Receives up to `batch` shards, of short and long jobs, each with the subject that settles it."""
        received, end = [], time.monotonic() + seconds
        while len(received) < batch and time.monotonic() < end:
            for queue in self.queues:
                if len(received) < batch:
                    received += await self._pull_from(queue, batch - len(received), min(seconds, 0.3))
        return received

    async def _pull_from(self, queue, batch, seconds):
        self.pulls += 1
        request = json.dumps({"batch": batch, "expires": int(seconds * 1e9)}).encode()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.{queue}"
        await self.connection.publish(subject, request, reply=f"{self.inbox}.{self.pulls}")
        received = []
        while len(received) < batch:
            try:
                message = await self.replies.next_msg(timeout=seconds + 0.5)
            except nats.errors.TimeoutError:
                break
            if not message.data:
                break
            received.append((json.loads(message.data), message.reply))
        return received

    async def settle(self, reply, word=b"+ACK"):
        await self.connection.publish(reply, word)

    async def count_components(self, program):
        """Number of components of a plain program, which a result has to match: that of its groups."""
        if program not in self.components:
            subject = f"$JS.API.DIRECT.GET.KV_forge_programs.$KV.forge_programs.{program}"
            message = await self.connection.request(subject, b"", timeout=5)
            self.components[program] = int.from_bytes(message.data[40:44], "little")
        return self.components[program]

    async def lie(self, task, key=None, **result):
        """Publishes a wrong, well-formed and validly signed result of a shard."""
        components = await self.count_components(task["program"])
        lie = shard_result(task["iterations"], components, **result)
        payload = signed_result(key or Key(), task, self.pool, lie)
        await self.connection.publish(result_subject(self.pool, task), payload)

    async def request(self, subject, payload=b"", headers=None):
        """Sends a request that JetStream answers, and returns the answer."""
        reply = await self.connection.request(subject, payload, timeout=5, headers=headers)
        return json.loads(reply.data)

    async def flush(self):
        await self.connection.flush()


async def lie_about_every_shard(cluster, told):
    """Answers every shard with a lie under a new key until cancelled. Appends to `told`."""
    worker = await Worker(cluster).open()
    while True:
        for task, reply in await worker.pull(batch=64, seconds=0.3):
            await worker.lie(task)
            await worker.settle(reply)
            told.append(task["shard_id"])
        await worker.flush()
        await asyncio.sleep(0)
