"""Writing and checking the vector files of tests/vectors/v1.

Part of the independent second implementation written from docs/determinism.md alone; see
forge_reader.py for its purpose and usage.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Iterator

from forge_vectors import FILES


def pretty(value: Any, indent: int = 0) -> str:
    """JSON with two spaces of indentation; a value that fits on a line stays on it."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or not value or indent + len(flat) <= 116:
        return flat
    pad = " " * (indent + 2)
    if isinstance(value, dict):
        items = [f"{pad}{json.dumps(key, ensure_ascii=False)}: {pretty(item, indent + 2)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"
    items = [pad + pretty(item, indent + 2) for item in value]
    return "[\n" + ",\n".join(items) + "\n" + " " * indent + "]"


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 90 else f"{text[:70]}… ({len(text)} characters)"


def differences(path: str, stored: Any, computed: Any) -> Iterator[str]:
    """Yields a line for each difference of two JSON values."""
    if isinstance(stored, dict) and isinstance(computed, dict):
        for key in list(computed) + [key for key in stored if key not in computed]:
            if key not in stored:
                yield f"{path}.{key}: missing"
            elif key not in computed:
                yield f"{path}.{key}: not in the specification's vectors"
            else:
                yield from differences(f"{path}.{key}", stored[key], computed[key])
    elif isinstance(stored, list) and isinstance(computed, list):
        if len(stored) != len(computed):
            yield f"{path}: {len(stored)} items, computed {len(computed)}"
        for i, (a, b) in enumerate(zip(stored, computed)):
            yield from differences(f"{path}[{i}]", a, b)
    elif type(stored) is not type(computed) or stored != computed:
        yield f"{path}: stored {shown(stored)}, computed {shown(computed)}"


def check_file(path: Path, text: str) -> list[str]:
    """The faults of a stored vector file."""
    stored = path.read_bytes().decode("utf-8")
    if stored == text:
        return []
    try:
        found = list(differences(path.name, json.loads(stored), json.loads(text)))
    except ValueError as error:
        return [f"{path.name}: no JSON: {error}"]
    return found or [f"{path.name}: same values, written differently"]


def build_text(name: str) -> tuple[str, float]:
    """The text of a vector file, and how many seconds of CPU time it took."""
    started = time.process_time()
    return pretty(FILES[name]()) + "\n", time.process_time() - started


def main(directory: Path, write: bool) -> int:
    """`forge_reader.py vectors DIR --check` and `--write`. Builds the files in a process for each CPU."""
    problems: list[str] = []
    with ProcessPoolExecutor() as processes:
        built = dict(zip(FILES, processes.map(build_text, FILES)))
    for name, (text, seconds) in built.items():
        path = directory / name
        if path.exists():
            found = check_file(path, text)
            if found and write:
                found = [f"{name}: exists with other content; released vectors never change: not written"]
        elif write:
            directory.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode("utf-8"))
            found = []
        else:
            found = [f"{name}: missing"]
        problems += found
        status = "differs" if found else "ok"
        print(f"{name}: {status} ({len(text.encode('utf-8'))} bytes, {seconds:.1f} s)", file=sys.stderr)
    problems += [f"{path.name}: not a vector file of this version" for path in sorted(directory.glob("*"))
                 if path.name not in FILES]
    for problem in problems:
        print(problem)
    return 1 if problems else 0
