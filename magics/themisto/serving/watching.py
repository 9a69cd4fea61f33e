"""Watching: the stages of a deploy, a bench or a batch as they pass, in a notebook or a terminal."""

from __future__ import annotations

import sys
from html import escape
from typing import Any

from themisto.serving.progress import Stage, Stages, Watcher

__all__ = ["watcher"]


def watcher() -> Watcher:
    """A board that changes in place in a notebook, lines in a terminal."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return _Board() if shell is not None and hasattr(shell, "kernel") else _Lines()


class _Lines:
    """A line for each stage that is over."""

    def __init__(self) -> None:
        self._told = 0

    def changed(self, stages: Stages) -> None:
        over = [stage for stage in stages if stage.seconds is not None]
        for stage in over[self._told :]:
            sys.stdout.write(f"{_mark(stage)} {stage.name:<8} {stage.seconds:6.2f} s  {stage.note}\n")
        self._told = len(over)


class _Board:
    """One display, updated in place."""

    def __init__(self) -> None:
        self._handle: Any = None

    def changed(self, stages: Stages) -> None:
        from IPython.display import display

        shown = _Shown(stages)
        if self._handle is None:
            self._handle = display(shown, display_id=True)
        else:
            self._handle.update(shown)


class _Shown:
    """The stages at one moment."""

    def __init__(self, stages: Stages) -> None:
        self._title = stages.title
        self._rows = [(_mark(s), s.name, "" if s.seconds is None else f"{s.seconds:.2f} s", s.note) for s in stages]

    def __repr__(self) -> str:
        return "\n".join(f"{mark} {name:<8} {seconds:>8}  {note}".rstrip() for mark, name, seconds, note in self._rows)

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in row) + "</tr>"
            for row in self._rows
        )
        return f'<div class="themisto-stages"><b>{escape(self._title)}</b><table>{rows}</table></div>'


def _mark(stage: Stage) -> str:
    if stage.failed:
        return "✗"
    return "…" if stage.seconds is None else "✓"
