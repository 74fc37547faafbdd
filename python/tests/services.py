"""A pytest plugin: services for the tests and the doctests of the client."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FORGE = Path(os.environ["FORGE"])
START_SECONDS = 30


@dataclass(frozen=True)
class Services:
    """Where the services are."""

    nats_url: str
    store: Path


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A nats-server, and `forge up` against it."""
    directory = tmp_path_factory.mktemp("services")
    port = _free_port()
    nats_url, store = f"nats://127.0.0.1:{port}", directory / "store"
    nats = [os.environ["NATS_SERVER"], "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", str(directory / "nats")]
    up = [str(FORGE), "up", "--nats-url", nats_url, "--store", str(store)]
    with open(directory / "log", "w") as log, contextlib.ExitStack() as stack:
        for command in (nats, up):
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=directory)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            if command is nats:
                _wait_for(port)
        yield Services(nats_url, store)


@dataclass(frozen=True)
class SecuredServices:
    """A planner behind the configuration that `forge credentials` writes."""

    nats_url: str
    secrets: Path

    def settings(self, user: str) -> dict[str, str]:
        """The variables that `forge credentials` wrote for a user."""
        lines = (self.secrets / "env" / user).read_text().splitlines()
        pairs = (line.split("=", 1) for line in lines if not line.startswith("#"))
        return {name: value.strip("'") for name, value in pairs}


@pytest.fixture(scope="session")
def secured_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredServices]:
    """A nats-server with generated users, and a planner."""
    directory = tmp_path_factory.mktemp("secured")
    port = _free_port()
    secrets = directory / "secrets"
    subprocess.run([str(FORGE), "credentials", str(secrets)], check=True, stdout=subprocess.DEVNULL)
    services = SecuredServices(f"nats://127.0.0.1:{port}", secrets)
    configuration = secrets / "nats-server.conf"
    text = configuration.read_text()
    assert "0.0.0.0:4222" in text
    configuration.write_text(text.replace("0.0.0.0:4222", f"127.0.0.1:{port}"))
    variables = os.environ | {"FORGE_NATS_DATA": str(directory / "nats")}
    of_planner = variables | {"FORGE_NATS_URL": services.nats_url} | services.settings("planner")
    nats = [os.environ["NATS_SERVER"], "-c", str(configuration)]
    planner = [str(FORGE), "planner"]
    with open(directory / "log", "w") as log, contextlib.ExitStack() as stack:
        for command, environment in ((nats, variables), (planner, of_planner)):
            process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=directory, env=environment
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            if command is nats:
                _wait_for(port)
        yield services


def _wait_for(port: int) -> None:
    """Waits until a server accepts connections."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "nats-server does not start"
            time.sleep(0.05)


@pytest.fixture(autouse=True)
def doctest_services(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    """Gives the services to the doctests that use them."""
    example = getattr(request.node, "dtest", None)
    if example is not None and "NATS_URL" in example.docstring:
        services: Services = request.getfixturevalue("services")
        doctest_namespace |= {"NATS_URL": services.nats_url, "STORE": services.store}
