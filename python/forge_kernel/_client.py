"""Clients of the services: one that blocks, and one for asyncio."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import _native
from ._errors import ForgeError, JobError
from ._result import Result
from ._run import Model, envelope_bytes

TERMINAL_STATES = frozenset({"completed", "failed", "cancelled"})
# Interval at which a wait for the next record handles signals and its time limit, s.
POLL = 0.2


class Job:
    """The record of a job, as it was when it was read.

    >>> Job('{"job_id": "a", "state": "running", "progress": {"iterations": 4, "iterations_done": 1}}')
    <Job a: running, 25%>
    """

    def __init__(self, record_json: str) -> None:
        self._record: dict[str, Any] = json.loads(record_json)

    @property
    def job_id(self) -> str:
        """Id of the job."""
        return str(self._record["job_id"])

    @property
    def state(self) -> str:
        """State, such as ``running`` or ``completed``."""
        return str(self._record["state"])

    @property
    def has_ended(self) -> bool:
        """Whether the job has completed, failed or was cancelled."""
        return self.state in TERMINAL_STATES

    @property
    def progress(self) -> float:
        """Share of the iterations that are executed, from 0 to 1."""
        progress = self._record["progress"]
        return float(progress["iterations_done"] / max(progress["iterations"], 1))

    @property
    def waiting(self) -> str | None:
        """Why the job waits; ``None`` if it does not."""
        return self._record.get("waiting")

    @property
    def hash(self) -> str | None:
        """The result hash; ``None`` until the job has completed."""
        return self._record.get("result")

    @property
    def manifest(self) -> str | None:
        """Where the manifest is; ``None`` until the job has completed, or if it stores nothing."""
        return self._record.get("manifest")

    @property
    def error(self) -> JobError | None:
        """Why the job failed or was cancelled; ``None`` if it did not or was not."""
        error = self._record.get("error")
        return JobError(error["code"], error["message"]) if error else None

    def to_dict(self) -> dict[str, Any]:
        """Returns the record as Python objects."""
        return dict(self._record)

    def __repr__(self) -> str:
        return f"<Job {self.job_id}: {self.state}, {self.progress:.0%}>"


class Client:
    """A connection to the services over NATS. Its methods block; Ctrl-C interrupts them.

    What no argument gives is read from the variables of the ``forge`` command, such as those of a
    file that ``forge credentials`` writes: ``FORGE_NATS_URL``, ``FORGE_NATS_USER``,
    ``FORGE_NATS_PASSWORD_FILE``, ``FORGE_NATS_INBOX_PREFIX``. The settings of a user belong
    together: if an argument gives one of ``credentials``, ``user``, ``password``,
    ``password_file`` and ``inbox_prefix``, no variable gives another.

    Args:
        nats_url: URL of a NATS server, or several: ``nats://`` or ``tls://``. Default:
            ``nats://127.0.0.1:4222``.
        credentials: Credentials file (JWT and seed).
        user: User name, with a password, if there is no credentials file.
        password: The user's password.
        password_file: File with the user's password, which is read for every connection.
        inbox_prefix: Prefix of the subjects on which replies are received, if permissions require
            one.
        ca: Certificates of the authorities trusted to sign the server's certificate (PEM).
        store: Store from which artifacts are read: a directory, or ``s3://bucket[/prefix]``.

    Raises:
        ForgeError: An argument cannot be used, or NATS is unreachable.

    >>> client = Client(NATS_URL, store=STORE)
    >>> job = client.submit("examples/minimal.json")
    >>> client.wait(job.job_id).state
    'completed'
    """

    def __init__(
        self,
        nats_url: str | Sequence[str] | None = None,
        *,
        credentials: str | os.PathLike[str] | None = None,
        user: str | None = None,
        password: str | None = None,
        password_file: str | os.PathLike[str] | None = None,
        inbox_prefix: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        store: str | os.PathLike[str] = "forge-out",
    ) -> None:
        self._native = _native.NativeClient(
            [nats_url] if isinstance(nats_url, str) else nats_url and list(nats_url),
            credentials=None if credentials is None else os.fspath(credentials),
            user=user,
            password=password,
            password_file=None if password_file is None else os.fspath(password_file),
            inbox_prefix=inbox_prefix,
            ca=None if ca is None else os.fspath(ca),
            store=os.fspath(store),
        )

    def submit(self, model: Model, *, job_id: str | None = None, submitter: str | None = None) -> Job:
        """Submits a model. The same envelope under the same job id is the same job.

        Args:
            model: As for :func:`forge_kernel.run`.
            job_id: Submit under this job id instead of the envelope's.
            submitter: Submitter to which the job's usage is charged.

        Raises:
            ForgeError: The envelope is refused, or no planner answers.
        """
        envelope = envelope_bytes(model)
        if job_id is not None:
            envelope = _with_job_id(envelope, job_id)
        return Job(self._native.submit(envelope, submitter=submitter))

    def status(self, job_id: str) -> Job:
        """Reads the record of a job."""
        return Job(self._native.status(job_id))

    def cancel(self, job_id: str) -> Job:
        """Cancels a job, and returns its record. A job that has ended stays as it is."""
        return Job(self._native.cancel(job_id))

    def watch(self, job_id: str) -> Iterator[Job]:
        """Yields the record of a job whenever it is seen to change, until the job has ended."""
        watch = self._native.watch(job_id)
        while (record := watch.next(POLL)) != "":
            if record is not None:
                yield Job(record)

    def wait(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Waits until a job has completed, and returns its record.

        Args:
            job_id: Id of the job.
            timeout: Longest wait, s. Default: no limit.

        Raises:
            JobError: The job failed or was cancelled.
            TimeoutError: The job has not ended in time. It goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        watch = self._native.watch(job_id)
        job = None
        while (record := watch.next(POLL)) != "":
            job = Job(record) if record is not None else job
            _check_deadline(job_id, deadline)
        return _completed(job_id, job)

    def artifacts(self, job_id: str, *, out: str | os.PathLike[str]) -> dict[str, Path]:
        """Writes all artifacts of a completed job to a directory and checks their hashes.

        Returns the path of each artifact by its name.

        Raises:
            MismatchError: An artifact is missing or damaged.
        """
        names = self._native.fetch_artifacts(job_id, os.fspath(out))
        return {name: Path(out, name) for name in names}

    def result(self, job_id: str) -> Result:
        """Reads the result of a completed job from the store and checks its hash."""
        content = self._native.read_artifact(job_id, "result.json")
        return Result(content, hash=hashlib.sha256(content).hexdigest(), job_id=job_id)


class AsyncClient:
    """:class:`Client` for asyncio: the same methods as coroutines, with the same arguments.

    The connection is opened by the first call.

    >>> async def main():
    ...     client = AsyncClient(NATS_URL, store=STORE)
    ...     job = await client.submit("examples/minimal.json")
    ...     return (await client.wait(job.job_id)).state
    >>> asyncio.run(main())
    'completed'
    """

    def __init__(
        self,
        nats_url: str | Sequence[str] | None = None,
        *,
        credentials: str | os.PathLike[str] | None = None,
        user: str | None = None,
        password: str | None = None,
        password_file: str | os.PathLike[str] | None = None,
        inbox_prefix: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        store: str | os.PathLike[str] = "forge-out",
    ) -> None:
        self._open = lambda: Client(
            nats_url,
            credentials=credentials,
            user=user,
            password=password,
            password_file=password_file,
            inbox_prefix=inbox_prefix,
            ca=ca,
            store=store,
        )
        self._lock = asyncio.Lock()
        self._client: Client | None = None

    async def _connected(self) -> Client:
        async with self._lock:
            if self._client is None:
                self._client = await asyncio.to_thread(self._open)
            return self._client

    async def submit(self, model: Model, *, job_id: str | None = None, submitter: str | None = None) -> Job:
        """As :meth:`Client.submit`."""
        client = await self._connected()
        return await asyncio.to_thread(client.submit, model, job_id=job_id, submitter=submitter)

    async def status(self, job_id: str) -> Job:
        """As :meth:`Client.status`."""
        return await asyncio.to_thread((await self._connected()).status, job_id)

    async def cancel(self, job_id: str) -> Job:
        """As :meth:`Client.cancel`."""
        return await asyncio.to_thread((await self._connected()).cancel, job_id)

    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        """As :meth:`Client.watch`."""
        watch = (await self._connected())._native.watch(job_id)
        while (record := await asyncio.to_thread(watch.next, POLL)) != "":
            if record is not None:
                yield Job(record)

    async def wait(self, job_id: str, *, timeout: float | None = None) -> Job:
        """As :meth:`Client.wait`."""
        async def last() -> Job | None:
            job = None
            async for job in self.watch(job_id):
                pass
            return job

        try:
            return _completed(job_id, await asyncio.wait_for(last(), timeout))
        except asyncio.TimeoutError:
            raise _timeout(job_id) from None

    async def artifacts(self, job_id: str, *, out: str | os.PathLike[str]) -> dict[str, Path]:
        """As :meth:`Client.artifacts`."""
        client = await self._connected()
        return await asyncio.to_thread(client.artifacts, job_id, out=out)

    async def result(self, job_id: str) -> Result:
        """As :meth:`Client.result`."""
        return await asyncio.to_thread((await self._connected()).result, job_id)


def _with_job_id(envelope: bytes, job_id: str) -> bytes:
    try:
        document = json.loads(envelope)
        document["ctx"] = {**(document.get("ctx") or {}), "job_id": job_id}
    except (ValueError, TypeError, AttributeError) as error:
        raise ForgeError(f"job_id: the envelope and its ctx must be objects: {error}") from error
    return json.dumps(document).encode()


def _timeout(job_id: str) -> TimeoutError:
    return TimeoutError(f"job {job_id} has not ended in time")


def _check_deadline(job_id: str, deadline: float | None) -> None:
    if deadline is not None and time.monotonic() > deadline:
        raise _timeout(job_id)


def _completed(job_id: str, job: Job | None) -> Job:
    """Checks that a job has completed."""
    if job is None:
        raise ForgeError(f"job {job_id}: the connection was closed")
    if job.error is not None:
        raise job.error
    return job
