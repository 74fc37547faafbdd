"""What shows the progress of a run."""

from __future__ import annotations

import io
import sys

import pytest
from forge_kernel import _progress
from forge_kernel._progress import open_display


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_terminals_show_a_bar_that_disappears(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(_progress, "DELAY", 0)
    with open_display(None) as bar:
        assert bar is not None
        bar(250, 1000)
        bar(260, 1000)
    shown = terminal.getvalue()
    assert "█████░░░░░░░░░░░░░░░  25%  250 of 1,000, " in shown
    assert "260" not in shown, "redrawn too often"
    assert shown.endswith("\r\x1b[K")


def test_short_runs_and_other_streams_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with open_display(None) as bar:
        assert bar is not None
        bar(1, 1000)
    assert terminal.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with open_display(None) as nothing:
        assert nothing is None
    with open_display(False) as nothing:
        assert nothing is None
    with open_display(print) as given:
        assert given is print
