"""The lock of a state: one supervisor at a time, and how other commands find the one that runs."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from themisto.errors import Conflict
from themisto.types import Model
from themisto_hub.settings import Deployment

__all__ = ["Lock", "Running", "as_running", "holder", "running"]


class Running(Model):
    """What other commands must know of a workbench that is up."""

    port: int
    public_url: str | None
    no_isolation: str
    """Why there is no isolation; empty where there is."""


class Lock:
    """Held from before the first start until after the last stop; the kernel frees it, however we end."""

    def __init__(self, state: Path, about: Running) -> None:
        self._state = state
        self._about = about
        self._handle: IO[str] | None = None

    def __enter__(self) -> None:
        self._handle = handle = self._take()
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        _about(self._state).parent.mkdir(mode=0o700, exist_ok=True)
        _about(self._state).write_text(self._about.model_dump_json())

    def _take(self) -> IO[str]:
        handle = _file(self._state).open("a+")
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = holder(self._state)
                if pid is not None:
                    handle.close()
                    raise Conflict(f"This workbench is up already (process {pid}).", "Stop it: make down.") from None
                time.sleep(0.05)  # somebody was only looking whether it is held
            else:
                return handle

    def __exit__(self, *_: object) -> None:
        assert self._handle is not None
        _about(self._state).unlink(missing_ok=True)
        self._handle.truncate(0)
        self._handle.close()


def holder(state: Path) -> int | None:
    """Process id of the supervisor that runs on `state`; None if none does, whatever an earlier one left there."""
    try:
        with _file(state).open() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(handle.read().strip() or 0)
    except FileNotFoundError:
        pass
    return None


def running(state: Path) -> Running | None:
    """What runs on `state`, as far as we may know it."""
    try:
        return Running.model_validate_json(_about(state).read_text()) if holder(state) is not None else None
    except (OSError, ValidationError):
        return None


def as_running(settings: Deployment) -> Deployment:
    """The settings with the addresses of the workbench that runs on their state, if one does."""
    found = running(settings.state.absolute())
    return settings.model_copy(update=found.model_dump(include={"port", "public_url"})) if found else settings


def _file(state: Path) -> Path:
    return state / "supervisor.lock"


def _about(state: Path) -> Path:
    return state / "run" / "up.json"
