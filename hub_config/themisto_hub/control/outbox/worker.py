"""Worker of the outbox: a thread a target, so that one that hangs delays no other and nothing of ours."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from themisto_hub.control.context import Control
from themisto_hub.control.outbox.sending import NotSent, send
from themisto_hub.control.outbox.target import Target

__all__ = ["deliver", "run"]

_log = logging.getLogger(__name__)
_PAUSE_S = 1.0
_AFTER_ERROR_S = 10.0
_SWEEP_S = 3600.0


async def run(control: Control) -> None:
    """Until cancelled. Its threads are its own: those that the reconciler runs in stay free."""
    targets = control.outbox.targets
    pool = ThreadPoolExecutor(len(targets) + 1, thread_name_prefix="outbox")
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_sweep(control, pool))
            for target in targets:
                group.create_task(_serve(control, target, pool))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


async def _serve(control: Control, target: Target, pool: ThreadPoolExecutor) -> None:
    while True:
        try:
            busy = await asyncio.get_running_loop().run_in_executor(pool, partial(deliver, control, target))
            pause = 0.0 if busy else _PAUSE_S
        except Exception:  # noqa: BLE001 - the database may be away; events wait in it
            _log.exception("events for %s wait", target.title)
            pause = _AFTER_ERROR_S
        await asyncio.sleep(pause)


def deliver(control: Control, target: Target) -> bool:
    """Try the oldest event that is due for the target; False where there is none."""
    taken = control.outbox.take(target)
    if taken is None:
        return False
    try:
        send(target, taken.event, control.clock())
    except NotSent as error:
        _log.warning("event %s was not sent to %s: %s", taken.event.id, target.title, error.reason)
        if control.outbox.not_sent(taken, error.reason, final=error.final):
            control.metrics.events_failed.labels(taken.event.kind).inc()
    else:
        control.outbox.sent(taken)
        control.metrics.events_sent.labels(taken.event.kind).inc()
    return True


async def _sweep(control: Control, pool: ThreadPoolExecutor) -> None:
    while True:
        try:
            await asyncio.get_running_loop().run_in_executor(pool, control.outbox.sweep)
        except Exception:  # noqa: BLE001 - it is done again in an hour
            _log.exception("the outbox was not swept")
        await asyncio.sleep(_SWEEP_S)
