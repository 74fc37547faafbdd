"""The native part of this package."""

from collections.abc import Callable, Sequence

class RunOutput:
    job_id: str
    hash: str
    result_json: bytes
    manifest: str | None
    warnings: list[str]
    threads: int
    seconds: float

def run(
    envelope: bytes,
    *,
    job_id: str | None,
    out: str | None,
    backend: str,
    threads: int | None,
    max_kept_bytes: int,
    on_progress: Callable[[int, int], object] | None,
) -> RunOutput: ...
def audit(
    manifest: str,
    *,
    full: bool,
    reexecute: int,
    seed: str | None,
    backend: str,
    threads: int | None,
    signers: str | None,
    allow_unsigned: bool,
    on_progress: Callable[[int, int], object] | None,
) -> tuple[str, str | None]: ...
def arrow_stream(columns: Sequence[tuple[str, Sequence[int | float | str | None]]]) -> object: ...

class NativeWatch:
    def next(self, seconds: float) -> str | None: ...

class NativeClient:
    def __init__(
        self,
        nats_url: Sequence[str] | None,
        *,
        credentials: str | None,
        user: str | None,
        password: str | None,
        password_file: str | None,
        inbox_prefix: str | None,
        ca: str | None,
        store: str,
    ) -> None: ...
    def submit(self, envelope: bytes, *, submitter: str | None) -> str: ...
    def status(self, job_id: str) -> str: ...
    def cancel(self, job_id: str) -> str: ...
    def watch(self, job_id: str) -> NativeWatch: ...
    def read_artifact(self, job_id: str, name: str) -> bytes: ...
    def fetch_artifacts(self, job_id: str, directory: str) -> list[str]: ...
