"""`POST /v2/features/{service}`: the read API over HTTP."""

from __future__ import annotations

import re

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from themisto.errors import Invalid, TooLarge
from themisto.features.answers import answer_of
from themisto.spans import span
from themisto_hub.gateway.feature_api import FeatureApi, ReadRequest
from themisto_hub.gateway.feature_callers import Callers
from themisto_hub.gateway.feature_paths import READ_PATH
from themisto_hub.gateway.feature_problems import as_read_problem

__all__ = ["body_of", "milliseconds", "read_route"]

_MS = re.compile(r"[0-9]{1,9}")
_SEND = 'Send {"entities": {"KEY": [VALUE, …]}}, and if you like "features", "history" and "group".'


def read_route(api: FeatureApi, callers: Callers, max_body_bytes: int) -> Route:
    """The API's one route."""

    async def read(request: Request) -> Response:
        caller = callers.of(request.headers.get("authorization", ""))
        with span("features.get", kind="server", parent=request.headers.get("traceparent")):
            asked = _parsed(await body_of(request, max_body_bytes))
            found = await api.read(request.path_params["service"], asked, caller, patience_s=_patience_s(request))
            return Response(answer_of(found).model_dump_json(), media_type="application/json")

    return Route(f"{READ_PATH}{{service}}", as_read_problem(read), methods=["POST"])


async def body_of(request: Request, max_bytes: int) -> bytes:
    """The whole body. Raises Invalid for a packed one, TooLarge."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Invalid("A request that is packed in this way cannot be read.", "Send it as it is.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise TooLarge(f"The request is over {max_bytes / 2**20:g} MiB.", "Send less at once.")
    return bytes(body)


def milliseconds(said: str) -> float | None:
    """A header's milliseconds in seconds; None for what is none."""
    return int(said) / 1000 if _MS.fullmatch(said) else None


def _parsed(body: bytes) -> ReadRequest:
    try:
        return ReadRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part)[:60] for part in first["loc"])
        what = f"{where}: {first['msg']}" if where else first["msg"]
        raise Invalid(f"The body is not right: {what}.", _SEND) from None


def _patience_s(request: Request) -> float | None:
    """How long the caller says to wait, and no longer than Envoy does."""
    said = milliseconds(request.headers.get("themisto-timeout-ms", ""))
    left = milliseconds(request.headers.get("x-envoy-expected-rq-timeout-ms", ""))
    return said if said is None or left is None else min(said, left)
