"""The worker of features: materializes what was asked for, merges pushes, erases, keeps the book in place."""

from __future__ import annotations

import asyncio

from themisto_hub.control.context import Control

__all__ = ["run"]

_PAUSE_S = 0.2
_BOOK_EVERY = 25  # pauses
_TIDY_EVERY = 300


async def run(control: Control) -> None:
    """Until cancelled. One run at a time: the online store has one writer anyway."""
    features = control.features
    count = 0
    await asyncio.to_thread(features.rows.check)
    while True:
        if count % _BOOK_EVERY == 0:
            await asyncio.to_thread(features.publish_quietly)
        if count % _TIDY_EVERY == 0:
            await asyncio.to_thread(features.rows.tidy)
        count += 1
        for materialization in await asyncio.to_thread(features.materializing.waiting):
            await asyncio.to_thread(features.materializing.do, materialization)
        await asyncio.to_thread(features.pushing.do)
        await asyncio.to_thread(features.erasing.do)
        await asyncio.sleep(_PAUSE_S)
