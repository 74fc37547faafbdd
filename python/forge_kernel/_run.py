"""Runs envelopes in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import _native
from ._errors import ForgeError
from ._model import Profile
from ._progress import ProgressCallback, open_display
from ._result import Result

Model = Profile | Mapping[str, Any] | str | bytes | os.PathLike[str]

# Upper bound on the shard results that a job keeps, as of `forge run --keep-shards`.
KEPT_SHARDS_MIB = 64


def run(
    model: Model,
    *,
    progress: bool | ProgressCallback | None = None,
    out: str | os.PathLike[str] | None = None,
    job_id: str | None = None,
    backend: str = "auto",
    threads: int | None = None,
    keep_shards: int = KEPT_SHARDS_MIB,
) -> Result:
    """Executes a model in this process, without the interpreter's lock.

    The result depends only on the envelope's op, args and seed: its hash is that of ``forge run``
    and of a cluster. Ctrl-C cancels the job.

    Args:
        model: A typed model, an envelope as a dict or as JSON text, or the path of an envelope.
        progress: A function that is called with the executed iterations and their total, about ten
            times a second. By default, runs of more than half a second show a bar in a notebook
            and on a terminal; ``False`` shows none.
        out: Store for the artifacts that the envelope asks for: a directory, or
            ``s3://bucket[/prefix]``. By default nothing is stored.
        job_id: Run under this job id instead of the envelope's.
        backend: Backend that executes shards: ``auto``, ``simd``, ``scalar``, ``gpu``, or a name
            that ``forge devices`` lists.
        threads: Number of threads that execute shards. Default: one per core, or two for a GPU.
        keep_shards: Keep the shard results of the job with its artifacts if they take at most this
            many MiB together; 0 keeps none.

    Raises:
        EnvelopeError: The envelope is invalid.
        JobError: The job failed.
        ForgeError: An argument cannot be used.

    >>> import forge_kernel
    >>> result = forge_kernel.run(
    ...     forge_kernel.Insurance(
    ...         iterations=100_000, claim_frequency=2, claim_severity_mu=6, claim_severity_sigma=1
    ...     )
    ... )
    >>> result.mean
    1331.874228
    """
    with open_display(progress) as on_progress:
        output = _native.run(
            envelope_bytes(model),
            job_id=job_id,
            out=None if out is None else os.fspath(out),
            backend=backend,
            threads=check_threads(threads),
            max_kept_bytes=check_count("keep_shards", keep_shards, 1 << 40) << 20,
            on_progress=on_progress,
        )
    return Result(
        output.result_json,
        hash=output.hash,
        job_id=output.job_id,
        manifest=output.manifest,
        warnings=output.warnings,
        seconds=output.seconds,
    )


def envelope_bytes(model: Model) -> bytes:
    """Returns the JSON text of an envelope."""
    if isinstance(model, Profile):
        model = model.envelope()
    if isinstance(model, Mapping):
        return json.dumps(model, default=_to_python).encode()
    if isinstance(model, bytes):
        return model
    if isinstance(model, str) and model.lstrip().startswith("{"):
        return model.encode()
    if isinstance(model, str | os.PathLike):
        try:
            return Path(model).read_bytes()
        except OSError as error:
            raise ForgeError(f"model: cannot read {os.fspath(model)}: {error.strerror}") from error
    raise TypeError(
        "model must be a typed model, an envelope as a dict or as JSON text, or a path, "
        f"not {type(model).__name__}"
    )


def check_threads(threads: int | None) -> int | None:
    """Checks a number of threads."""
    return None if threads is None else check_count("threads", threads, 4096, least=1)


def check_count(name: str, count: int, most: int, least: int = 0) -> int:
    """Checks an argument that is a whole number."""
    if isinstance(count, bool) or not isinstance(count, int) or not least <= count <= most:
        raise ForgeError(f"{name}: must be a whole number from {least:,} to {most:,}; it is {count!r}")
    return count


def _to_python(value: Any) -> Any:
    """A number or an array of numpy as Python objects."""
    convert: Callable[[], Any] | None = getattr(value, "tolist", None)
    if convert is None:
        raise TypeError(f"model: a value of type {type(value).__name__} cannot be written as JSON")
    return convert()
