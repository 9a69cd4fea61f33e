"""Progress: the stages of a deploy, how long each took, and who watches them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from themisto.spans import span

__all__ = ["Silent", "Stage", "Stages", "Watcher"]


class Stage:
    """One step of the way: its name, what is known about it, and its seconds once it is over."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.note = ""
        self.seconds: float | None = None
        self.failed = False
        self.started_s = time.monotonic()


class Watcher(Protocol):
    """Is told whenever a stage starts, learns something or ends. Must be quick and never raise."""

    def changed(self, stages: Stages) -> None:
        """Show the stages as they are now."""
        ...


class Silent:
    """Watches nothing."""

    def changed(self, stages: Stages) -> None:
        """Do nothing."""


class Stages:
    """The stages so far, in order."""

    def __init__(self, title: str, watcher: Watcher) -> None:
        self.title = title
        self._watcher = watcher
        self._all: list[Stage] = []

    def __iter__(self) -> Iterator[Stage]:
        return iter(self._all)

    @property
    def current(self) -> str:
        """The stage that was reached last; empty before the first."""
        return self._all[-1].name if self._all else ""

    @property
    def seconds(self) -> float:
        """Of all stages that are over."""
        return sum(stage.seconds or 0.0 for stage in self._all)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """A stage that lasts as long as the block; one that raises is marked as failed."""
        stage = Stage(name)
        self._all.append(stage)
        self._watcher.changed(self)
        try:
            with span(f"themisto.{name}"):
                yield stage
        except BaseException:
            stage.failed = True
            raise
        finally:
            stage.seconds = time.monotonic() - stage.started_s
            self._watcher.changed(self)

    def note(self, text: str) -> None:
        """Something new about the current stage."""
        if self._all and self._all[-1].note != text:
            self._all[-1].note = text
            self._watcher.changed(self)
