"""A progress bar for what takes longer than a moment: a widget in a notebook, a line of text in a terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

__all__ = ["Bar"]

_MOMENT_S = 1.0
_WIDTH = 30


class Bar:
    """How far something is. Nothing is shown of what is done within a second."""

    def __init__(self, name: str, *, moment_s: float = _MOMENT_S) -> None:
        self._name = name
        self._from = time.monotonic() + moment_s
        self._widget: Any = None
        self._line = False

    def told(self, share: float) -> None:
        """share: from 0 to 1."""
        if time.monotonic() < self._from:
            return
        from IPython.core.getipython import get_ipython

        if hasattr(get_ipython(), "kernel"):
            self._in_notebook(share)
        elif sys.stderr.isatty():
            filled = round(share * _WIDTH)
            sys.stderr.write(f"\r{self._name} [{'#' * filled}{'.' * (_WIDTH - filled)}] {share:4.0%}")
            sys.stderr.flush()
            self._line = True

    def _in_notebook(self, share: float) -> None:
        if self._widget is None:
            from IPython.display import display
            from ipywidgets import FloatProgress

            self._widget = FloatProgress(min=0.0, max=1.0, description=self._name)
            display(self._widget)
        self._widget.value = share

    def close(self) -> None:
        """Take it away: what it stood for is done, or stopped."""
        if self._widget is not None:
            self._widget.close()
        if self._line:
            sys.stderr.write("\r" + " " * (len(self._name) + _WIDTH + 10) + "\r")
