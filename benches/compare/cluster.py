"""A cluster of one `forge` binary: nats-server with the binary's production configuration, and the
services as processes on loopback, each with the credential of its role.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import nats
from tools import free_ports

ROLES = ["client", "planner", "worker", "worker-gpu", "verifier", "aggregator"]
SERVICES = ("planner", "aggregator", "verifier")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
START_SECONDS = 30
JOB_SECONDS = 120


class Failure(Exception):
    """The cluster did not work."""


@dataclass
class Contender:
    """A binary to measure, the NATS configuration of its version, and additional settings."""

    name: str
    forge: Path
    configuration: Path
    environment: dict = field(default_factory=dict)

    @classmethod
    def parse(cls, text):
        """Reads `NAME=FORGE,CONFIGURATION[,VARIABLE=VALUE…]`."""
        name, _, rest = text.partition("=")
        forge, configuration, *settings = rest.split(",")
        return cls(name, Path(forge).resolve(), Path(configuration).resolve(), dict(s.split("=", 1) for s in settings))


def with_observer(configuration):
    """The configuration with a user of the services' account that sees every message."""
    account = re.search(r"^  FORGE: \{\n", configuration, re.M).end()
    users = configuration.index("    users: [\n", account) + len("    users: [\n")
    return configuration[:users] + '      { user: observer, password: "observer-secret" }\n' + configuration[users:]


class Cluster:
    """Use it as an asynchronous context manager: it stops what it has started."""

    def __init__(self, contender, nats_server):
        self.contender, self.nats_server = contender, nats_server
        self.directory = Path(tempfile.mkdtemp(prefix="forge-compare-"))
        self.processes = {}
        self.port, self.monitor = free_ports(2)
        self.ended = {}

    async def __aenter__(self):
        try:
            self._start_nats()
            for service in SERVICES:
                self._start(service, service)
            self.observer = await self._connect("observer")
            self.client = await self._connect("client")
            # Core messages: every change of a record, without a consumer.
            await self.observer.subscribe("$KV.jobs.>", cb=self._see_record)
            await self.observer.flush()
            return self
        except BaseException:
            await self.__aexit__()
            raise

    async def __aexit__(self, *_):
        for connection in ("observer", "client"):
            if hasattr(self, connection):
                await getattr(self, connection).close()
        for name in reversed(list(self.processes)):
            process = self.processes.pop(name)
            process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def add_worker(self, number):
        """Starts a worker of one thread and waits until it is ready."""
        self._start(f"worker-{number}", "worker")

    def _spawn(self, name, command, environment):
        with open(self.directory / f"{name}.log", "w") as log:
            self.processes[name] = subprocess.Popen(
                [str(part) for part in command],
                env={"PATH": os.environ["PATH"], **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )

    def _start_nats(self):
        configuration = with_observer(self.contender.configuration.read_text())
        path = self.directory / "nats-server.conf"
        path.write_text(f'{configuration}\nhttp: "127.0.0.1:{self.monitor}"\n')
        passwords = {f"FORGE_{role.upper().replace('-', '_')}_PASSWORD": f"{role}-secret" for role in ROLES}
        command = [self.nats_server, "-a", "127.0.0.1", "-p", self.port, "-c", path]
        self._spawn("nats", command, {"FORGE_NATS_DATA": str(self.directory / "jetstream"), **passwords})
        self._wait_for_status("nats", f"http://127.0.0.1:{self.monitor}/healthz")

    def _start(self, name, role):
        (http,) = free_ports(1)
        environment = {
            "FORGE_NATS_URL": f"nats://127.0.0.1:{self.port}",
            "FORGE_NATS_USER": role,
            "FORGE_NATS_PASSWORD": f"{role}-secret",
            "FORGE_NATS_INBOX_PREFIX": f"_INBOX_{role}",
            "FORGE_STORE": str(self.directory / "store"),
            "FORGE_THREADS": "1",
            "FORGE_HTTP": f"127.0.0.1:{http}",
            "FORGE_LOG": "warn",
            **self.contender.environment,
        }
        self._spawn(name, [self.contender.forge, role], environment)
        self._wait_for_status(name, f"http://127.0.0.1:{http}/readyz")

    def _wait_for_status(self, name, url):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.processes[name].poll() is None:
            try:
                with urllib.request.urlopen(url, timeout=5):
                    return
            except OSError:
                time.sleep(0.02)
        raise Failure(f"{self.contender.name}: {name} does not become ready\n{self.logs()}")

    def logs(self):
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in self.directory.glob("*.log"))

    async def _connect(self, role):
        return await nats.connect(
            f"nats://127.0.0.1:{self.port}",
            user=role,
            password=f"{role}-secret",
            inbox_prefix=f"_INBOX_{role}".encode(),
        )

    async def _see_record(self, message):
        record = json.loads(message.data) if message.data else {}
        job = message.subject.removeprefix("$KV.jobs.")
        if job.startswith("rejected-"):
            # No job of a measurement is; the job that waits would wait for ever.
            for end in self.ended.values():
                end.done() or end.set_result((time.perf_counter(), record))
        waiting = self.ended.get(job)
        if waiting and not waiting.done() and record.get("state") in ("completed", "failed", "cancelled"):
            waiting.set_result((time.perf_counter(), record))

    def _expect(self, envelope):
        """The time and record of a job's end, as a future."""
        job = envelope["ctx"]["job_id"]
        self.ended[job] = asyncio.get_running_loop().create_future()
        return self.ended[job]

    async def run_jobs(self, envelopes):
        """Publishes envelopes and waits until their jobs have completed. Returns the seconds."""
        ends = [self._expect(envelope) for envelope in envelopes]
        started = time.perf_counter()
        for envelope in envelopes:
            # The reply is JetStream's: the envelope is stored.
            await self.client.request("forge.v1.jobs.submit", json.dumps(envelope).encode(), timeout=10)
        return max(await asyncio.gather(*(self._completed(end) for end in ends))) - started

    async def submit_by_api(self, envelopes, concurrency):
        """Submits envelopes to planners. Returns the seconds until all replies are there, and those
        until all jobs have completed.
        """
        ends = [self._expect(envelope) for envelope in envelopes]
        permits = asyncio.Semaphore(concurrency)

        async def submit(envelope):
            async with permits:
                reply = await self.client.request("forge.v1.api.submit", json.dumps(envelope).encode(), timeout=30)
            if (reply.headers or {}).get("Nats-Service-Error-Code"):
                raise Failure(f"{self.contender.name}: a submission was refused: {reply.headers}")

        started = time.perf_counter()
        await asyncio.gather(*(submit(envelope) for envelope in envelopes))
        replied = time.perf_counter()
        completed = max(await asyncio.gather(*(self._completed(end) for end in ends)))
        return replied - started, completed - started

    async def _completed(self, end):
        try:
            at, record = await asyncio.wait_for(end, JOB_SECONDS)
        except asyncio.TimeoutError:
            raise Failure(f"{self.contender.name}: a job has not ended\n{self.logs()}") from None
        if record["state"] != "completed":
            raise Failure(f"{self.contender.name}: {record['state']}: {record.get('error')}\n{self.logs()}")
        return at

    def traffic(self):
        """Messages and bytes that the server has received from clients and sent to them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/varz", timeout=5) as reply:
            counters = json.load(reply)
        messages, size = (counters[f"in_{what}"] + counters[f"out_{what}"] for what in ("msgs", "bytes"))
        return messages, size

    def cpu_seconds(self):
        """CPU time of each process since its start; that of workers together."""
        total = {}
        for name, process in self.processes.items():
            fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            service = name.split("-")[0]
            total[service] = total.get(service, 0) + (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
        return total

    def peak_mib(self, name):
        """Largest resident size of a process so far."""
        status = Path(f"/proc/{self.processes[name].pid}/status").read_text()
        return int(re.search(r"^VmHWM:\s+(\d+)", status, re.M).group(1)) / 1024
