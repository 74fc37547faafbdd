"""The clients, against real services."""

from __future__ import annotations

import asyncio
from pathlib import Path

import forge_kernel
import pytest
from services import SecuredServices, Services
from test_run import ENDLESS

MINIMAL = "examples/minimal.json"


@pytest.fixture
def client(services: Services) -> forge_kernel.Client:
    return forge_kernel.Client(services.nats_url, store=services.store)


def test_jobs_have_the_result_of_a_run(client: forge_kernel.Client, tmp_path: Path) -> None:
    job = client.submit("examples/insurance.json", job_id="from-python")
    assert job.job_id == "from-python"
    states = [seen.state for seen in client.watch(job.job_id)]
    assert states[-1] == "completed"
    done = client.wait(job.job_id)
    assert done.has_ended and done.progress == 1 and done.error is None
    expected = forge_kernel.run("examples/insurance.json")
    result = client.result(job.job_id)
    assert done.hash == result.hash == expected.hash and result.json == expected.json
    paths = client.artifacts(job.job_id, out=tmp_path)
    assert paths["result.json"].read_bytes() == expected.json
    assert set(paths) == {path.name for path in tmp_path.iterdir()}
    assert done.manifest is not None and forge_kernel.audit(done.manifest, full=True).proved
    assert client.submit("examples/insurance.json", job_id="from-python").state == "completed"


def test_cancelled_jobs_are_errors(client: forge_kernel.Client) -> None:
    job = client.submit(ENDLESS, job_id="endless")
    with pytest.raises(TimeoutError, match="endless has not ended in time"):
        client.wait(job.job_id, timeout=1)
    assert client.cancel(job.job_id).job_id == "endless"
    with pytest.raises(forge_kernel.JobError) as cancelled:
        client.wait(job.job_id)
    assert cancelled.value.code == "cancelled"
    assert client.status(job.job_id).state == "cancelled"
    with pytest.raises(forge_kernel.ForgeError, match="endless has no result"):
        client.result(job.job_id)


def test_errors_name_what_is_wrong(client: forge_kernel.Client, services: Services, tmp_path: Path) -> None:
    with pytest.raises(forge_kernel.EnvelopeError):
        client.submit({"op": {"name": "mc", "version": 1, "profile": "insurance.v1"}})
    with pytest.raises(forge_kernel.ForgeError, match="absent"):
        client.status("absent")
    with pytest.raises(forge_kernel.ForgeError, match="job_id: "):
        client.status("not an id")
    with pytest.raises(forge_kernel.ForgeError, match="submitter: "):
        client.submit(MINIMAL, submitter="not a name")
    with pytest.raises(forge_kernel.ForgeError, match="artifact|absent"):
        client.artifacts("absent", out=tmp_path)
    with pytest.raises(forge_kernel.ForgeError, match="nats-creds"):
        forge_kernel.Client(services.nats_url, credentials=tmp_path / "absent")
    with pytest.raises(forge_kernel.ForgeError):
        forge_kernel.Client("nats://127.0.0.1:1")


def test_generated_credentials_are_used_by_arguments_and_by_variables(
    secured_services: SecuredServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, settings = secured_services.nats_url, secured_services.settings("client")
    user, password_file = settings["FORGE_NATS_USER"], settings["FORGE_NATS_PASSWORD_FILE"]
    prefix = settings["FORGE_NATS_INBOX_PREFIX"]
    client = forge_kernel.Client(url, user=user, password_file=password_file, inbox_prefix=prefix)
    assert client.submit(MINIMAL, job_id="by-arguments").job_id == "by-arguments"
    with pytest.raises(forge_kernel.ForgeError, match="credentials|uthorization"):
        forge_kernel.Client(url)
    without_prefix = forge_kernel.Client(url, user=user, password_file=password_file)
    with pytest.raises(forge_kernel.ForgeError, match="not permitted"):
        without_prefix.status("by-arguments")

    for name, value in {**settings, "FORGE_NATS_URL": url}.items():
        monkeypatch.setenv(name, value)
    assert not forge_kernel.Client().status("by-arguments").has_ended
    with pytest.raises(forge_kernel.ForgeError, match="nats-password-file"):
        forge_kernel.Client(user="another")

    async def cancelled() -> str:
        return (await forge_kernel.AsyncClient().cancel("by-arguments")).job_id

    assert asyncio.run(cancelled()) == "by-arguments"


def test_async_client_does_the_same(services: Services, tmp_path: Path) -> None:
    async def scenario() -> None:
        client = forge_kernel.AsyncClient(services.nats_url, store=services.store)
        jobs = await asyncio.gather(*(client.submit(MINIMAL, job_id=f"async-{index}") for index in range(4)))
        done = await asyncio.gather(*(client.wait(job.job_id) for job in jobs))
        assert len({job.hash for job in done}) == 1
        assert [job.state async for job in client.watch("async-0")] == ["completed"]
        assert (await client.status("async-0")).state == "completed"
        assert (await client.result("async-0")).hash == done[0].hash
        assert "result.json" in await client.artifacts("async-0", out=tmp_path)
        endless = await client.submit(ENDLESS, job_id="async-endless")
        with pytest.raises(TimeoutError):
            await client.wait(endless.job_id, timeout=1)
        await client.cancel(endless.job_id)
        with pytest.raises(forge_kernel.JobError):
            await client.wait(endless.job_id)

    asyncio.run(scenario())
