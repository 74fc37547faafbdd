"""The examples of the documentation print what they promise."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

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
