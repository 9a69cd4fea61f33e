"""Routes of the process that reads topics into views: what it is to read, and what it brings."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import PositiveInt, ValidationError

from themisto.errors import Invalid, NotFound, Refused
from themisto.types import Identifier, Slug
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control, get_control
from themisto_hub.control.serving.guard import recorded_refusals
from themisto_hub.feature_streams.models import FEATURE_STREAMS_KEY, Batch, Fed, Flow, Report

__all__ = ["router"]

router = APIRouter(prefix="/feature-streams", tags=["feature-streams"])
InControl = Annotated[Control, Depends(get_control)]
_MAX_BYTES = 256 * 2**20


def consumer(
    request: Request, control: InControl, key: Annotated[str, Header(alias=FEATURE_STREAMS_KEY)] = ""
) -> Caller:
    """The consumer's process, on this machine, not through the proxy. Raises NotFound, Refused (recorded)."""
    if "x-forwarded-for" in request.headers:
        raise NotFound("There is no such address here.", "Only the consumer of topics asks for its streams.")
    caller = Caller(name="feature-streams", groups=(), scopes=frozenset(), request_id=request.state.request_id)
    expected = control.keys.feature_streams
    with recorded_refusals(control, caller, "feature_stream.ask", request.url.path[:200]):
        if expected is None or not hmac.compare_digest(expected.get_secret_value().encode(), key.encode()):
            raise Refused("This is not the key of the consumer of topics.", "Only that process asks for its streams.")
    return caller


Consumer = Annotated[Caller, Depends(consumer)]


@router.post("/report")
def report(body: Report, control: InControl, _: Consumer) -> list[Flow]:
    """How the streams do; answers which there are to be."""
    return control.features.streaming.heard(body)


@router.get("/{group}/{view}/places")
def places(
    group: Slug, view: Identifier, version: Annotated[PositiveInt, Query()], control: InControl, _: Consumer
) -> dict[int, int]:
    """By partition the offset that is to be read next; what was never read is not in it."""
    return control.features.streaming.places(group, view, version)


@router.post("/{group}/{view}/rows")
async def feed(group: Slug, view: Identifier, request: Request, control: InControl, caller: Consumer) -> Fed:
    """The body is one line of JSON, a `Batch`, and then its rows in Parquet, if there are any."""
    head, rows = await _body(request)
    try:
        batch = Batch.model_validate_json(head)
    except ValidationError as error:
        raise Invalid("This is no batch.", f"{error.errors()[0]['msg']}.") from None
    draft: Path | None = None
    if rows:
        draft = await control.features.rows.receive(group, _once(rows))
    streamed = caller.model_copy(update={"name": f"stream:{batch.topic}"})
    return await run_in_threadpool(control.features.streaming.feed, streamed, group, view, batch, draft)


async def _body(request: Request) -> tuple[bytes, bytes]:
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > _MAX_BYTES:
            raise Invalid("The batch is over 256 MiB.", "Send fewer messages at a time.")
        parts.append(chunk)
    head, _, rows = (await asyncio.to_thread(b"".join, parts)).partition(b"\n")
    return head, rows


async def _once(rows: bytes) -> AsyncIterator[bytes]:
    yield rows
