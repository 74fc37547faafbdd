"""Audits what a completed job stored."""

from __future__ import annotations

import json
import os
from html import escape
from typing import Any

from . import _native
from ._progress import ProgressCallback, open_display
from ._run import check_count, check_threads
from ._table import Table


class Verdict:
    """What an audit shows. :func:`forge_kernel.audit` returns it."""

    job_id: str
    """Id of the job."""
    verdict: str
    """``proved``, ``consistent`` or ``failed``."""
    omission: str | None
    """Why something that was asked for could not be done; ``None`` if all was done."""

    def __init__(self, report_json: str, omission: str | None) -> None:
        self._report: dict[str, Any] = json.loads(report_json)
        self.job_id = self._report["job_id"]
        self.verdict = self._report["verdict"]
        self.omission = omission

    @property
    def proved(self) -> bool:
        """Whether every shard was executed again, and the merge is the result, byte for byte."""
        return self.verdict == "proved"

    @property
    def consistent(self) -> bool:
        """Whether nothing contradicts the result, but less was executed again."""
        return self.verdict == "consistent"

    @property
    def failed(self) -> bool:
        """Whether something contradicts the result or its record."""
        return self.verdict == "failed"

    @property
    def reasons(self) -> list[str]:
        """The failed checks, each as ``name: detail``; empty unless the verdict is ``failed``."""
        checks = self._report["checks"]
        return [f"{check['name']}: {check['detail']}" for check in checks if check["status"] == "failed"]

    @property
    def checks(self) -> Table:
        """Every check with its name, its status and a detail."""
        return Table.from_rows(self._report["checks"])

    def __bool__(self) -> bool:
        """Raises :class:`TypeError`: a verdict is one of three."""
        raise TypeError("a verdict is neither true nor false: ask for .proved, .consistent or .failed")

    def to_dict(self) -> dict[str, Any]:
        """Returns the report of ``forge audit --format json`` as Python objects."""
        return dict(self._report)

    def __repr__(self) -> str:
        return f"<Verdict on job {self.job_id}: {self.verdict}>"

    def _repr_html_(self) -> str:
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in self.reasons)
        head = f"<h4>Job {escape(self.job_id)}: {escape(self.verdict)}</h4><ul>{reasons}</ul>"
        return head + self.checks._repr_html_()


def audit(
    manifest: str | os.PathLike[str],
    *,
    full: bool = False,
    reexecute: int = 0,
    seed: str | None = None,
    backend: str = "scalar",
    threads: int | None = None,
    signers: str | os.PathLike[str] | None = None,
    allow_unsigned: bool = False,
    progress: bool | ProgressCallback | None = None,
) -> Verdict:
    """Checks everything that a completed job stored, as ``forge audit`` does.

    Args:
        manifest: The job: its ``manifest.json`` or its directory ``jobs/<job_id>``, locally or in a
            bucket as ``s3://…``.
        full: Execute every shard again and merge the results, which proves the result.
        reexecute: Execute this many randomly drawn shards again. Not together with ``full``.
        seed: Seed that draws these shards, to repeat an audit. Default: random.
        backend: Backend that executes shards again.
        threads: Number of threads that execute shards again. Default: one per core.
        signers: File of known keys and pools: fail if another one signed.
        allow_unsigned: Accept a manifest without a signature. Not together with ``signers``.
        progress: As for :func:`forge_kernel.run`.

    Raises:
        ForgeError: The job cannot be read, or an argument cannot be used.

    >>> import forge_kernel, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> result = forge_kernel.run("examples/minimal.json", out=folder)
    >>> verdict = forge_kernel.audit(result.manifest, full=True)
    >>> verdict.proved, verdict.reasons
    (True, [])
    """
    check_count("reexecute", reexecute, 1 << 48)
    if full and reexecute:
        raise ValueError("give full or reexecute, not both")
    if allow_unsigned and signers is not None:
        raise ValueError("give signers or allow_unsigned, not both")
    with open_display(progress) as on_progress:
        report, omission = _native.audit(
            os.fspath(manifest),
            full=full,
            reexecute=reexecute,
            seed=seed,
            backend=backend,
            threads=check_threads(threads),
            signers=None if signers is None else os.fspath(signers),
            allow_unsigned=allow_unsigned,
            on_progress=on_progress,
        )
    return Verdict(report, omission)
