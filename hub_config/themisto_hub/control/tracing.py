"""Tracing: the control plane's spans: one for a request, and one for each step of a rollout.

A rollout goes on after the request that opened it: its steps are in that request's trace as long as this
process remembers it, and in traces of their own after a restart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from themisto.serving.models import Release
from themisto.spans import Span, current, span

__all__ = ["Traced", "remember", "rollout_step"]

_REMEMBERED = 1000
_UNENDING = "/events"
_PREFIX = "/services/themisto/api/v1"
"""Part of a route's path in some versions of FastAPI, and in others not."""
_opened: OrderedDict[str, str] = OrderedDict()
"""`traceparent` of the request that opened a rollout, by the rollout's id."""


class Traced:
    """A span for each request of the API, named by its route; what stands in paths and queries stays out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].endswith(_UNENDING):
            await self._app(scope, receive, send)
            return
        parent = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        attributes = {"http.request.method": scope["method"]}
        with span(scope["method"], attributes, kind="server", parent=parent or None) as opened:
            status = 500  # where the application raises and answers nothing

            async def answer(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await self._app(scope, receive, answer)
            finally:
                _tell(opened, scope, status)


def _tell(opened: Span, scope: Scope, status: int) -> None:
    """What is known once the router has found the route."""
    told: dict[str, str | int] = {"http.response.status_code": status}
    route = getattr(scope.get("route"), "path", "").removeprefix(_PREFIX)
    if route:
        opened.rename(f"{scope['method']} {route}")
        told["http.route"] = route
    if "/endpoints/{name}" in route:
        told["themisto.endpoint"] = scope["path_params"]["name"]
    if request_id := scope.get("state", {}).get("request_id"):
        told["themisto.request_id"] = request_id
    opened.set(told)
    if status >= 500:
        opened.failed(str(status))


def remember(rollout: str) -> None:
    """The trace that is open here is the rollout's, too."""
    header = current().traceparent
    if header:
        _opened[rollout] = header
        while len(_opened) > _REMEMBERED:
            _opened.popitem(last=False)


@contextmanager
def rollout_step(step: str, rollout: str, release: Release) -> Iterator[None]:
    """A span around one step of a rollout."""
    attributes = {"themisto.rollout": rollout, "themisto.release": str(release)}
    with span(f"rollout.{step}", attributes, parent=_opened.get(rollout)):
        yield
