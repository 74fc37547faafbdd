"""The notebooks of examples/notebooks: executed again, they print what they contain.

`FORGE_WRITE_NOTEBOOKS=1 make test-python` writes their outputs anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

FOLDER = Path("examples/notebooks")
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def texts(notebook: Any) -> list[list[str]]:
    """The text of the outputs of each cell. Drawings depend on the version of matplotlib."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[text_of(output) for output in cell.outputs] for cell in cells]


def text_of(output: Any) -> str:
    if output.output_type == "stream":
        return str(output.text)
    is_drawing = "image/png" in output.data
    return "drawing" if is_drawing else str(output.data.get("text/html", output.data["text/plain"]))


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) == 3


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_prints_what_it_contains(name: str) -> None:
    path = FOLDER / name
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    contained = texts(notebook)
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(FOLDER)}})
    client.execute(env={**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        # Progress that was shown and removed again.
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if text_of(output)]
    if os.environ.get("FORGE_WRITE_NOTEBOOKS"):
        notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec",)}
        nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    else:
        assert texts(notebook) == contained
