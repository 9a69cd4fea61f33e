"""Routes: what the panel may ask of the control plane, and nothing else.

A path is matched whole against this list after URL decoding, so `..`, absolute URLs, encoded
slashes and new resources of the control plane are refused without being looked at further.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from themisto.errors import Refused

__all__ = ["QUERY", "ROUTES", "Route", "upstream_path"]

QUERY = ("limit", "after", "days", "force", "about", "only", "bodies", "metric", "group")
"""Query arguments that are passed on."""

_NAME = r"[a-z][a-z0-9_-]{0,47}"
_ENDPOINT = _NAME + r"(\.v([2-9]|[1-9][0-9]{1,2}))?"
"""`themisto.serving.names.ENDPOINT_PATTERN`, without importing pydantic at Jupyter's start; a test compares."""
_IDENTIFIER = r"[a-z][a-z0-9_]{0,47}"
_ID = r"[0-9A-HJKMNP-TV-Z]{26}"


class Route(NamedTuple):
    """One method and one shape of path below `/themisto/api/`."""

    method: str
    pattern: str
    stream: bool = False


ROUTES = (
    Route("GET", "discovery"),
    Route("GET", "whoami"),
    Route("GET", "budget"),
    Route("GET", "runs"),
    Route("GET", "events", stream=True),
    Route("GET", "endpoints"),
    Route("GET", f"endpoints/{_ENDPOINT}"),
    Route("GET", rf"endpoints/{_ENDPOINT}/releases/[1-9]\d{{0,8}}"),
    Route("GET", f"endpoints/{_ENDPOINT}/callers"),
    Route("GET", f"endpoints/{_ENDPOINT}/(log|shadow|ab)"),
    Route("GET", "predictions/losses"),
    Route("POST", f"endpoints/{_ENDPOINT}/rollouts/{_ID}/(promote|step|pause|resume)"),
    Route("POST", f"endpoints/{_ENDPOINT}/rollback"),
    Route("POST", f"endpoints/{_ENDPOINT}/retire"),
    Route("POST", f"endpoints/{_NAME}/offer/accept"),
    Route("GET", "features/overview"),
    Route("GET", f"features/views/{_IDENTIFIER}/sketch"),
    Route("GET", "schedules"),
    Route("GET", f"schedules/{_NAME}/jobs"),
    Route("GET", f"schedules/{_NAME}/jobs/{_ID}"),
    Route("GET", rf"schedules/{_NAME}/jobs/{_ID}/output\.ipynb"),
    Route("POST", f"schedules/{_NAME}/(run|pause|resume)"),
)

_COMPILED = [(route, re.compile(route.pattern)) for route in ROUTES]


def upstream_path(method: str, path: str) -> tuple[str, bool]:
    """Where `path` lies below the control plane's URL, and whether it is a stream.

    Raises Refused for all that the panel does not need.

    >>> upstream_path("GET", "endpoints")
    ('/api/v1/endpoints', False)
    """
    for route, pattern in _COMPILED:
        if route.method == method and pattern.fullmatch(path):
            return ("/.well-known/themisto" if path == "discovery" else f"/api/v1/{path}"), route.stream
    raise Refused(
        f"The panel may not {method} '{path[:100]}'.",
        "Use the themisto client in a notebook: it reaches all of the control plane.",
    )
