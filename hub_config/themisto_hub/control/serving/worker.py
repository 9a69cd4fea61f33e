"""Reconciler: brings rollouts, every Triton and the route table to the stored state, for ever.

Nothing here is remembered that matters: killed at any point, it reads the database again and goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from themisto.errors import ThemistoError, Unavailable
from themisto.serving.models import Tier
from themisto_hub.control.context import Control
from themisto_hub.control.serving.progress import Work
from themisto_hub.control.serving.service import Serving

__all__ = ["run"]

_log = logging.getLogger(__name__)
_TICK_S = 1.0
_MAX_PAUSE_S = 30.0
_SWEEP_EVERY_S = 3600.0


async def run(control: Control) -> None:
    """Until cancelled. Each part has a loop of its own: a Triton that hangs delays no other."""
    serving = control.serving
    loop, wake = asyncio.get_running_loop(), asyncio.Event()

    def poke() -> None:
        loop.call_soon_threadsafe(wake.set)

    await asyncio.to_thread(serving.benches.sweep)
    serving.changes.subscribe(poke)
    try:
        async with asyncio.TaskGroup() as group:
            done = control.metrics.reconciled
            group.create_task(_repeat("route table", serving.routing.publish, done))
            group.create_task(_repeat("analysis of rollouts", serving.analyst.look, done))
            group.create_task(_repeat("artifact sweep", serving.sweep_artifacts, done, every_s=_SWEEP_EVERY_S))
            group.create_task(_repeat("packed environments", serving.packages.keep, done, every_s=_SWEEP_EVERY_S))
            for tier in serving.tritons.tiers:
                group.create_task(_repeat(f"{tier}'s Triton", _keeper(serving, tier), done))
            group.create_task(_repeat("the groups' Tritons", serving.keep_pools, done))
            group.create_task(_move_rollouts(serving, wake))
    finally:
        serving.changes.unsubscribe(poke)
        serving.prover.close()
        serving.benches.close()


def _keeper(serving: Serving, tier: Tier) -> Callable[[], None]:
    return lambda: serving.tritons.keep(tier, serving.progress.live())


async def _repeat(
    what: str, step: Callable[[], object], done: Callable[[str], None], *, every_s: float = _TICK_S
) -> None:
    """Do `step` in a thread again and again, and say each time that it is done; after an error, with growing pauses."""
    pause = every_s
    while True:
        try:
            await asyncio.to_thread(step)
            done(what)
            pause = every_s
        except Unavailable as error:
            if pause == every_s:
                _log.warning("%s: %s", what, error.detail)
            pause = min(max(pause * 2, _TICK_S), _MAX_PAUSE_S) if every_s < _MAX_PAUSE_S else every_s
        except Exception:  # noqa: BLE001 - one part that fails must not stop the others
            _log.exception("%s: tried again in %.0f s", what, pause)
            pause = min(max(pause * 2, _TICK_S), _MAX_PAUSE_S) if every_s < _MAX_PAUSE_S else every_s
        await asyncio.sleep(pause)


async def _move_rollouts(serving: Serving, wake: asyncio.Event) -> None:
    """Every unfinished rollout moves in a task of its own, at most one a rollout."""
    moving: dict[str, asyncio.Task[None]] = {}
    due: dict[str, float] = {}
    try:
        while True:
            wake.clear()
            moving = {rollout: task for rollout, task in moving.items() if not task.done()}
            work = {w.rollout: w for w in await asyncio.to_thread(_unfinished, serving)}
            due = {rollout: at for rollout, at in due.items() if rollout in work}
            for rollout, one in work.items():
                if rollout not in moving and due.get(rollout, 0.0) <= time.monotonic():
                    due[rollout] = time.monotonic() + min(0.5 * 2**one.tries, _MAX_PAUSE_S)
                    moving[rollout] = asyncio.create_task(_move(serving, one, wake))
            try:
                await asyncio.wait_for(wake.wait(), _TICK_S)
            except TimeoutError:
                continue
    finally:
        for task in moving.values():
            task.cancel()


def _unfinished(serving: Serving) -> list[Work]:
    try:
        return serving.progress.unfinished()
    except ThemistoError:
        _log.exception("rollouts cannot be read")
        return []


async def _move(serving: Serving, work: Work, wake: asyncio.Event) -> None:
    try:
        await asyncio.to_thread(serving.mover.advance, work)
    except Exception:  # noqa: BLE001 - whatever it is, the rollout stays where it is
        _log.exception("%s: moving it failed; it is tried again", work.release)
    wake.set()
