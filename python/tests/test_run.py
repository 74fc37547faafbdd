"""Runs in this process: the same bytes as the command, signals, progress, errors."""

from __future__ import annotations

import hashlib
import json
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import forge_kernel
import numpy
import pytest
from services import FORGE

QUICKSTART = Path("examples/insurance.json")
# Runs for hours unless it is stopped.
ENDLESS = forge_kernel.Insurance(
    iterations=1 << 44, claim_frequency=2, claim_severity_mu=6, claim_severity_sigma=1, seed="endless"
)


def test_result_has_the_bytes_of_the_command(tmp_path: Path) -> None:
    command = [str(FORGE), "run", str(QUICKSTART), "--format", "json", "--out", str(tmp_path), "--no-progress"]
    expected = subprocess.run(command, check=True, capture_output=True).stdout
    result = forge_kernel.run(QUICKSTART)
    assert result.json == expected
    assert result.hash == hashlib.sha256(expected).hexdigest()
    assert result.job_id == "quickstart-001"
    assert result.manifest is None


def test_every_form_of_a_model_is_the_same_job() -> None:
    text = QUICKSTART.read_text()
    envelope = json.loads(text)
    typed = forge_kernel.Insurance(
        iterations=1_000_000,
        claim_frequency=2,
        claim_severity_mu=6,
        claim_severity_sigma=1,
        cat_probability=0.02,
        cat_mu=10,
        cat_sigma=1.5,
        policy_limit=50_000,
        aggregate_limit=250_000,
        seed="ROOT_SEED_QUICKSTART",
        job_id="quickstart-001",
    )
    hashes = {forge_kernel.run(model).hash for model in (text, text.encode(), envelope, str(QUICKSTART), typed)}
    assert hashes == {forge_kernel.run(QUICKSTART).hash}


def test_backends_and_threads_do_not_change_the_result() -> None:
    expected = forge_kernel.run("examples/minimal.json")
    for backend, threads in (("scalar", 1), ("simd", 3)):
        assert forge_kernel.run("examples/minimal.json", backend=backend, threads=threads).hash == expected.hash


def test_numbers_of_numpy_are_numbers() -> None:
    args = {"iterations": numpy.int64(1000), "claim_freq": numpy.float64(2), "claim_severity_mu": 6}
    report = {"levels": numpy.array([0.5, 0.9])}
    op = {"name": "mc", "version": 1, "profile": "insurance.v1"}
    model = {"op": op, "args": {**args, "claim_severity_sig": 1, "report": report}}
    assert forge_kernel.run(model).quantiles["level"] == [0.5, 0.9]


def test_artifacts_are_stored_as_by_the_command(tmp_path: Path) -> None:
    result = forge_kernel.run(QUICKSTART, out=tmp_path, job_id="another-id")
    assert result.job_id == "another-id"
    assert result.manifest == str(tmp_path / "jobs/another-id/manifest.json")
    command = [str(FORGE), "run", str(QUICKSTART), "--out", str(tmp_path), "--as", "another-id", "--no-progress"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "same result as stored by an earlier run" in printed
    with pytest.raises(forge_kernel.JobError) as conflict:
        forge_kernel.run("examples/minimal.json", out=tmp_path, job_id="another-id")
    assert conflict.value.code == "conflict"


def test_envelope_errors_have_pointers() -> None:
    args = {"iterations": 0, "claim_freq": -1, "claim_severity_mu": float("nan"), "claim_severity_sig": 1}
    model = {"op": {"name": "mc", "version": 1, "profile": "insurance.v1"}, "args": args}
    with pytest.raises(forge_kernel.EnvelopeError) as not_json:
        forge_kernel.run(model)
    assert "NaN" in str(not_json.value)
    args["claim_severity_mu"] = 6
    with pytest.raises(forge_kernel.EnvelopeError) as invalid:
        forge_kernel.run(model)
    assert [pointer for pointer, _ in invalid.value.errors] == ["/args/iterations", "/args/claim_freq"]
    assert all(message.startswith("must be") for _, message in invalid.value.errors)
    assert pickle.loads(pickle.dumps(invalid.value)).errors == invalid.value.errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "abacus"}, "unknown backend"),
        ({"threads": 0}, "threads: must be a whole number from 1"),
        ({"threads": True}, "threads: must be a whole number"),
        ({"keep_shards": -1}, "keep_shards: must be"),
        ({"out": "memory:"}, "out: memory: keeps nothing"),
        ({"out": "ftp://x"}, "out: ftp://"),
        ({"job_id": "not an id"}, "job_id: "),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(forge_kernel.ForgeError, match=message):
        forge_kernel.run("examples/minimal.json", **arguments)  # type: ignore[arg-type]
    with pytest.raises(forge_kernel.ForgeError, match="model: cannot read absent.json"):
        forge_kernel.run("absent.json")
    with pytest.raises(TypeError, match="model must be"):
        forge_kernel.run(7)  # type: ignore[arg-type]


def test_policies_that_this_machine_cannot_keep_fail_the_job() -> None:
    policy = forge_kernel.Policy(timeout_ms=300)
    with pytest.raises(forge_kernel.JobError) as failed:
        forge_kernel.run(dataclass_with(ENDLESS, policy=policy))
    assert failed.value.code == "timeout"


def dataclass_with(model: forge_kernel.Insurance, **changes: object) -> forge_kernel.Insurance:
    import dataclasses

    return dataclasses.replace(model, **changes)  # type: ignore[arg-type]


def test_progress_is_reported_and_the_lock_is_released() -> None:
    calls: list[tuple[int, int]] = []
    counted, stop = 0, threading.Event()

    def count() -> None:
        nonlocal counted
        while not stop.wait(0.001):
            counted += 1

    class Enough(Exception):
        pass

    def on_progress(done: int, total: int) -> None:
        calls.append((done, total))
        if len(calls) == 5:
            raise Enough

    thread = threading.Thread(target=count)
    thread.start()
    try:
        with pytest.raises(Enough):
            forge_kernel.run(ENDLESS, progress=on_progress)
    finally:
        stop.set()
        thread.join()
    done = [done for done, _ in calls]
    assert done == sorted(done) and done[-1] > 0
    assert {total for _, total in calls} == {1 << 44}
    # Half a second: a thread that waits for the lock would count almost nothing.
    assert counted > 50


def test_interrupts_stop_a_run_and_the_process_goes_on() -> None:
    program = """
import forge_kernel, test_run
for _ in range(2):
    print("running", flush=True)
    try:
        forge_kernel.run(test_run.ENDLESS)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
print(forge_kernel.run("examples/minimal.json").iterations)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert process.stdout.readline() == "running\n"
            time.sleep(0.5)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
            assert time.monotonic() - sent < 10
        assert process.stdout.readline() == "100000\n"
        assert process.wait() == 0


def test_results_show_themselves() -> None:
    result = forge_kernel.run(QUICKSTART)
    assert repr(result).startswith("<Result of insurance.v1: 1,000,000 iterations, mean 2,324.92, hash 9713d4c3")
    html = result._repr_html_()
    assert "2,324.92 (standard error 11.70)" in html and result.hash in html
    assert result.to_dict()["output"]["mean_loss"] == result.mean == 2324.92010974
    trips = forge_kernel.run("examples/eta.json")
    assert trips.mean == trips.to_dict()["output"]["mean_eta"]
    with pytest.raises(forge_kernel.ForgeError, match="the result of eta.v1 has no exceedance"):
        trips.exceedance
    with pytest.raises(forge_kernel.ForgeError, match="the result of insurance.v1 has no treaties"):
        result.treaties


def test_warnings_are_kept() -> None:
    model = forge_kernel.Insurance(
        iterations=1000, claim_frequency=2, claim_severity_mu=50, claim_severity_sigma=1, policy_limit=1
    )
    result = forge_kernel.run(model)
    assert result.warnings and result.warnings[0] in result._repr_html_().replace("&#x27;", "'")
