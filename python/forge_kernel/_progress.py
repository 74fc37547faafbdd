"""Shows the progress of a run in a notebook or on a terminal."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

ProgressCallback = Callable[[int, int], object]

# Runs shorter than this show nothing, s.
DELAY = 0.5
# Interval between two lines or redraws, s.
INTERVAL = 0.2
BAR_WIDTH = 20


@contextlib.contextmanager
def open_display(progress: bool | ProgressCallback | None) -> Iterator[ProgressCallback | None]:
    """Yields the function that shows progress, and removes what it has shown at the end."""
    if progress is False:
        yield None
    elif callable(progress):
        yield progress
    else:
        bar = _open_bar()
        try:
            yield bar
        finally:
            if bar is not None:
                bar.close()


class _Bar:
    """Redraws at most once in an interval."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._next = self._start + DELAY
        self._is_shown = False

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + INTERVAL
        rate = done / (now - self._start)
        left = f"{(total - done) / rate:,.0f} s left" if rate else "unknown time left"
        self._draw(done / total, f"{done:,} of {total:,}, {rate:,.0f}/s, {left}")
        self._is_shown = True

    def close(self) -> None:
        if self._is_shown:
            self._clear()

    def _draw(self, share: float, text: str) -> None:
        raise NotImplementedError

    def _clear(self) -> None:
        raise NotImplementedError


class _TerminalBar(_Bar):
    def _draw(self, share: float, text: str) -> None:
        full = round(share * BAR_WIDTH)
        bar = "█" * full + "░" * (BAR_WIDTH - full)
        print(f"\r\x1b[K{bar} {share:>4.0%}  {text}", end="", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class _NotebookBar(_Bar):
    _handle: Any = None

    def __init__(self) -> None:
        super().__init__()
        self._ipython: Any = importlib.import_module("IPython.display")

    def _draw(self, share: float, text: str) -> None:
        html = self._ipython.HTML(f"<progress value='{share:.4f}' max='1'></progress> {share:.0%} {text}")
        if self._handle is None:
            self._handle = self._ipython.display(html, display_id=True)
        else:
            self._handle.update(html)

    def _clear(self) -> None:
        self._handle.update(self._ipython.HTML(""))


def _open_bar() -> _Bar | None:
    if _is_notebook():
        return _NotebookBar()
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    return _TerminalBar() if is_terminal else None


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"
