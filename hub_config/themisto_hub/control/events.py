"""What happens, told to whoever listens: server-sent events, one bounded queue a listener."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

__all__ = ["Events"]

_QUEUE = 200
_HEARTBEAT_S = 15.0


class Events:
    """Publish from any thread; each listener sees the events of its groups.

    A listener that does not keep up loses events, never the publisher's time; its panel reloads
    when it reconnects.
    """

    def __init__(self) -> None:
        self._listeners: dict[asyncio.Queue[tuple[str, Any]], frozenset[str]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop that serves the listeners; called once at start."""
        self._loop = loop

    def publish(self, kind: str, data: Any, group: str | None = None) -> None:
        """Tell listeners of `group` (or all, for None) that something of `kind` changed."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, kind, data, group)

    def _deliver(self, kind: str, data: Any, group: str | None) -> None:
        for queue, groups in self._listeners.items():
            if (group is None or group in groups) and not queue.full():
                queue.put_nowait((kind, data))

    async def listen(self, groups: frozenset[str]) -> AsyncIterator[str]:
        """The stream of one listener, in the wire format of server-sent events."""
        queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(_QUEUE)
        self._listeners[queue] = groups
        try:
            yield "retry: 2000\nevent: hello\ndata: {}\n\n"
            while True:
                try:
                    kind, data = await asyncio.wait_for(queue.get(), _HEARTBEAT_S)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                yield f"event: {kind}\ndata: {json.dumps(data, default=str)}\n\n"
        finally:
            del self._listeners[queue]
