"""Routes of looking at live traffic and at speed: the prediction log as Parquet, its labels, benches."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response

from themisto.errors import Invalid
from themisto.serving.bench import Bench, BenchRequest
from themisto.serving.experiment import Effect
from themisto.serving.shadow import Agreement
from themisto.types import Ulid, UtcTime
from themisto_hub.control.serving.api import Deployer, InServing, Name
from themisto_hub.control.serving.labels import MAX_BYTES, On, Posted
from themisto_hub.control.serving.prediction_log import MAX_ROWS, Rows

__all__ = ["router"]

PARQUET = "application/vnd.apache.parquet"
Metric = Annotated[str, Query(max_length=220)]
router = APIRouter(tags=["serving"])


class ParquetResponse(Response):
    """A Parquet file."""

    media_type = PARQUET


@router.get(
    "/endpoints/{name}/predictions",
    response_class=ParquetResponse,
    responses={200: {"content": {PARQUET: {"schema": {"type": "string", "format": "binary"}}}}},
)
def prediction_page(
    name: Name,
    *,
    serving: InServing,
    caller: Deployer,
    since: UtcTime | None = None,
    until: UtcTime | None = None,
    after: Annotated[str | None, Query(max_length=1000)] = None,
    rows: Rows = "answers",
    bodies: bool = True,
    labels: bool = False,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 1000,
) -> ParquetResponse:
    """A page of the prediction log, newest first; the header `x-next` is the `after` of the next page."""
    content, place = serving.predictions.page(
        caller,
        name,
        since=since,
        until=until,
        after=after,
        rows=rows,
        bodies=bodies,
        labels=labels,
        limit=limit,
    )
    return ParquetResponse(content, headers={"x-next": place} if place else None)


@router.get("/endpoints/{name}/shadow")
def shadow(name: Name, serving: InServing, caller: Deployer) -> Agreement:
    """Callers' newest answers beside the shadow's, and the rows that differ most."""
    return serving.comparisons.shadow(caller, name)


@router.get("/endpoints/{name}/ab")
def ab(name: Name, serving: InServing, caller: Deployer, metric: Metric = "latency_ms") -> Effect:
    """The latest rollout's effect on what the log itself holds: latency_ms, errors, or outputs.NAME."""
    return serving.comparisons.ab(caller, name, metric)


@router.post(
    "/endpoints/{name}/labels",
    openapi_extra={"requestBody": {"content": {PARQUET: {"schema": {"type": "string", "format": "binary"}}}}},
)
async def post_labels(
    name: Name,
    *,
    request: Request,
    background: BackgroundTasks,
    serving: InServing,
    caller: Deployer,
    on: On = "request_id",
) -> Posted:
    """Labels for earlier predictions: a Parquet body with `id`, `label` and, where wanted, `row` and `known_at`.

    After the answer the endpoint's gates are decided again on them.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise Invalid("The labels are more than 16 MiB.", "Post them in several parts.")
    posted = await asyncio.to_thread(serving.labels.post, caller, name, bytes(body), on=on)
    if posted.new or posted.changed:
        background.add_task(serving.judge_labelled, name)
    return posted


@router.post("/endpoints/{name}/benches", status_code=201)
def start_bench(name: Name, body: BenchRequest, serving: InServing, caller: Deployer) -> Bench:
    """Measure a release on a model server of its own, in the background; one bench at a time."""
    return serving.benches.start(caller, name, body)


@router.get("/endpoints/{name}/benches/{bench}")
def bench(name: Name, bench: Ulid, serving: InServing, caller: Deployer) -> Bench:
    """How far it has come."""
    return serving.benches.get(caller, name, bench)


@router.delete("/endpoints/{name}/benches/{bench}")
def cancel_bench(name: Name, bench: Ulid, serving: InServing, caller: Deployer) -> Bench:
    """End it."""
    return serving.benches.cancel(caller, name, bench)
