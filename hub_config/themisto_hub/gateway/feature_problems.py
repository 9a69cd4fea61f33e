"""What a request that cannot be answered hears from the transformer, in the shape of its API."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from themisto.errors import Invalid, ThemistoError

__all__ = ["UNREADABLE", "Handler", "as_oip", "as_problem", "as_read_problem", "ours"]

UNREADABLE = (UnicodeEncodeError, RecursionError)
"""What JSON can say and nothing can keep: half a surrogate pair, lists nested deeper than this process."""
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def as_problem(handler: Handler) -> Handler:
    """A problem document (RFC 9457)."""
    return _told(handler, lambda error: _problem(error, error.status))


def as_read_problem(handler: Handler) -> Handler:
    """A problem document with the Open Inference Protocol's `error`; a request that is wrong is a 400 there."""
    return _told(handler, lambda error: _problem(error, _status(error), oip=True))


def as_oip(handler: Handler) -> Handler:
    """The protocol's own error shape."""
    return _told(handler, lambda error: _sent({"error": str(error)}, _status(error), "application/json"))


def ours(error: Exception) -> ThemistoError:
    """The error that is told."""
    if isinstance(error, ThemistoError):
        return error
    return Invalid("The request holds half a character, or lists in lists without end.", "Send whole texts and rows.")


def _told(handler: Handler, tell: Callable[[ThemistoError], Response]) -> Handler:
    async def wrapped(request: Request) -> Response:
        try:
            return await handler(request)
        except (ThemistoError, *UNREADABLE) as error:
            return tell(ours(error))

    return wrapped


def _status(error: ThemistoError) -> int:
    return 400 if error.status == 422 else error.status


def _problem(error: ThemistoError, status: int, *, oip: bool = False) -> Response:
    body = {
        "type": f"urn:themisto:{error.slug}",
        "title": error.slug,
        "status": status,
        "detail": error.detail,
        "remedy": error.remedy,
    }
    told = {"error": str(error)} | body if oip else body
    return _sent(told, status, "application/problem+json")


def _sent(body: dict[str, Any], status: int, kind: str) -> Response:
    """In ASCII: what an error repeats of a request may be no text that can be sent."""
    return Response(json.dumps(body), status, media_type=kind)
