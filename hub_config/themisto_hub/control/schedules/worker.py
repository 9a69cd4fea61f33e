"""The scheduler's loop, beside the control plane's routes: each kind of work at its own pace."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from themisto.errors import Unavailable
from themisto_hub.control.context import Control
from themisto_hub.control.schedules.scheduler import Scheduler
from themisto_hub.control.schedules.service import Schedules

__all__ = ["run"]

_TICK_S = 1.0
_WATCH_S = 3.0
_SWEEP_S = 3600.0
_MAX_PAUSE_S = 30.0
_log = logging.getLogger(__name__)


async def run(control: Control) -> None:
    """Until cancelled. A hub that is slow to start one server holds up neither firing nor stopping."""
    scheduler = Scheduler(control, Schedules(control).files)
    async with asyncio.TaskGroup() as group:
        group.create_task(_repeat("firing", scheduler.fire, _TICK_S))
        group.create_task(_repeat("starting", scheduler.start, _TICK_S))
        group.create_task(_repeat("stopping", scheduler.stop, _TICK_S))
        group.create_task(_repeat("watching", scheduler.watch, _WATCH_S))
        group.create_task(_repeat("sweeping", scheduler.sweep, _SWEEP_S))


async def _repeat(what: str, step: Callable[[], None], every_s: float) -> None:
    """Do `step` in a thread again and again; after an error, with growing pauses."""
    pause = every_s
    while True:
        try:
            await asyncio.to_thread(step)
            pause = every_s
        except Unavailable as error:
            _log.warning("%s: %s", what, error.detail)
            pause = max(every_s, min(pause * 2, _MAX_PAUSE_S))
        except Exception:  # noqa: BLE001 - the other work must go on
            _log.exception("%s failed; tried again in %.0f s", what, pause)
            pause = max(every_s, min(pause * 2, _MAX_PAUSE_S))
        await asyncio.sleep(pause)
