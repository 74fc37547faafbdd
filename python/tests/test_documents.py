"""The examples of the documentation print what they promise."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path
from typing import Any

import forge_kernel
import pytest

# Its methods are those of Client, which have examples.
WITHOUT_EXAMPLES = {forge_kernel.AsyncClient}
PAGES = ["docs/start/python.md", "README.md"]


@pytest.mark.parametrize("page", PAGES)
def test_examples_print_what_the_page_promises(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(page).read_text()
    blocks = re.findall(r"^```pycon\n(.*?)^```$", text, re.M | re.S)
    assert blocks, "no examples"
    (tmp_path / "examples").symlink_to(Path("examples").resolve())
    monkeypatch.chdir(tmp_path)
    example = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page, page, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    printed: list[str] = []
    failed = runner.run(example, out=printed.append).failed
    assert not failed, "".join(printed)


def test_every_public_function_has_an_example() -> None:
    public = [getattr(forge_kernel, name) for name in forge_kernel.__all__]
    functions: list[Any] = [item for item in public if inspect.isfunction(item)]
    for item in public:
        if inspect.isclass(item) and item.__module__.count(".") == 1 and item not in WITHOUT_EXAMPLES:
            methods = inspect.getmembers(item, inspect.isroutine)
            functions += [method for name, method in methods if not name.startswith("_") and name in vars(item)]
    assert len(functions) > 15
    without = [function.__qualname__ for function in functions if ">>>" not in (function.__doc__ or "")]
    assert not without
