"""Unused: packed environments that no release needs any more, given up days later.

The control plane keeps a wish for each one that is needed (`keep_only`); the pool marks an environment without a
wish, and deletes it when the mark is old (`Unused`). `environments.require` trusts no marked one, so that what a
deploy has found ready is never what is being deleted.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from themisto_hub.model_server.environments import digest, folder, mark_of, ready_of, wish_of, wishes
from themisto_hub.settings import Deployment

__all__ = ["Unused", "keep_only"]

_LOOK_EVERY_S = 1.0
_DAY_S = 86_400.0
_log = logging.getLogger(__name__)


def keep_only(settings: Deployment, needed: Iterable[bytes]) -> None:
    """The control plane's side: a wish for each of these `requirements.txt`, and for nothing else."""
    wanted = {digest(one): one for one in needed}
    for name, requirements in wanted.items():
        if (folder(settings) / name).is_dir():  # else the deploy that needs it has it packed
            wish_of(settings, name, requirements)
    for wish in wishes(settings).glob("*.txt"):
        if wish.stem not in wanted:
            wish.unlink(missing_ok=True)


class Unused:
    """The pool's side."""

    def __init__(self, settings: Deployment) -> None:
        self._settings = settings
        self._wait_s = 0.0

    def step(self, passed_s: float) -> None:
        """Mark what nobody wishes for, unmark what is wished for again, delete what was marked for days."""
        self._wait_s -= passed_s
        if self._wait_s > 0:
            return
        self._wait_s = _LOOK_EVERY_S
        for place in folder(self._settings).iterdir():
            if not place.name.startswith(".") and place.is_dir():
                self._look_at(place)

    def _look_at(self, place: Path) -> None:
        mark, wished = mark_of(place), (wishes(self._settings) / f"{place.name}.txt").exists()
        if wished:
            mark.unlink(missing_ok=True)
        elif not mark.exists():
            mark.touch()
        elif time.time() - mark.stat().st_mtime > self._settings.environment_grace_days * _DAY_S:
            ready_of(place).unlink(missing_ok=True)  # what a kill leaves of it is never taken for whole
            shutil.rmtree(place, ignore_errors=True)
            if not place.exists():
                mark.unlink(missing_ok=True)
                _log.info("%s is deleted: no release has needed it for days", place.name[:12])
