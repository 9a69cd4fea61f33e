"""Routes of features: definitions, rows, materialization, freshness."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from pydantic import Field, TypeAdapter, ValidationError

from themisto.errors import Invalid
from themisto.features.models import Entity, FeatureService, FeatureView
from themisto.features.records import (
    Erasure,
    Freshness,
    Materialization,
    PoisonedMessage,
    Pushed,
    RegisteredView,
    ServiceSpec,
    ViewData,
)
from themisto.features.sketches import Sketch
from themisto.types import Identifier, Model, Sha256, Slug, Ulid, UtcTime
from themisto_hub.control.auth import Caller, needs
from themisto_hub.control.context import Control, get_control
from themisto_hub.control.features.overview import ViewLine
from themisto_hub.control.features.registry import group_of
from themisto_hub.control.features.service import Features

__all__ = ["router"]

router = APIRouter(prefix="/features", tags=["features"])


def get_features(control: Annotated[Control, Depends(get_control)]) -> Features:
    return control.features


InFeatures = Annotated[Features, Depends(get_features)]
Reader = Annotated[Caller, Depends(needs("features:read"))]
Writer = Annotated[Caller, Depends(needs("features:write"))]
Name = Annotated[Identifier, Path()]
Ref = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,47}(@[0-9]{1,9})?$")]
Group = Annotated[Slug | None, Query(description="one of the caller's groups; default: her only one")]
Digest = Annotated[Sha256 | None, Query()]
Limit = Annotated[int, Query(ge=1, le=500)]
After = Annotated[str, Query(max_length=48)]


_COUNTS = TypeAdapter(dict[str, Annotated[int, Field(ge=1, le=2**53)]])


def counts_of(
    left_out: Annotated[
        str,
        Query(max_length=10_000, description="JSON: how many rows of the source are not in it, by the reason"),
    ] = "{}",
) -> dict[str, int]:
    try:
        return _COUNTS.validate_json(left_out)
    except ValidationError:
        raise Invalid("The rows that were left out are not counted.", "Use themisto.features.apply(view).") from None


LeftOut = Annotated[dict[str, int], Depends(counts_of)]


def told(caller: Writer, control: Annotated[Control, Depends(get_control)], group: Group = None) -> Iterator[None]:
    """What was written is announced: the panels of the group look anew."""
    yield
    control.events.publish("features", {}, group_of(caller, group))


class Span(Model):
    """What to materialize: the newest event of each entity in [since, until]."""

    since: UtcTime | None = None
    until: UtcTime | None = None
    full: bool = Field(False, description="all rows, not only those that differ from what is online")
    group: Slug | None = None


class Whom(Model):
    """An entity by its keys."""

    keys: Annotated[dict[Identifier, str | int | bool], Field(min_length=1, max_length=8)]
    group: Slug | None = None


@router.put("/entities/{name}")
def put_entity(name: Name, body: Entity, features: InFeatures, caller: Writer, group: Group = None) -> Entity:
    _same(name, body.name)
    return features.registry.put_entity(caller, group_of(caller, group), body)


@router.get("/entities/{name}")
def entity(name: Name, features: InFeatures, caller: Reader, group: Group = None) -> Entity:
    return features.registry.entity(group_of(caller, group), name)


@router.put("/views/{name}", dependencies=[Depends(told)])
def put_view(
    name: Name, body: FeatureView, features: InFeatures, caller: Writer, group: Group = None
) -> RegisteredView:
    """A definition that differs from the newest is the next version."""
    _same(name, body.name)
    return features.registry.put_view(caller, group_of(caller, group), body)


@router.get("/views")
def views(
    features: InFeatures, caller: Reader, group: Group = None, limit: Limit = 100, after: After = ""
) -> list[RegisteredView]:
    return features.registry.views(group_of(caller, group), limit=limit, after=after)


@router.get("/overview")
def overview(features: InFeatures, caller: Reader, limit: Limit = 200) -> list[ViewLine]:
    """The views of all the caller's groups, a line each."""
    return features.overview.views(caller.groups, limit=limit)


@router.get("/views/{name}/sketch")
def sketch(name: Name, features: InFeatures, caller: Reader, group: Group = None) -> Sketch:
    """How the values of the view's features are spread: counts, no values."""
    return features.overview.sketch(group_of(caller, group), name)


@router.get("/views/{name}")
def view(name: Name, features: InFeatures, caller: Reader, group: Group = None) -> RegisteredView:
    return features.registry.view(group_of(caller, group), name)


@router.put("/views/{name}/data", dependencies=[Depends(told)])
async def put_rows(
    name: Name,
    request: Request,
    *,
    features: InFeatures,
    caller: Writer,
    group: Group = None,
    sha256: Digest = None,
    left_out: LeftOut,
) -> ViewData:
    """The body is Parquet with the view's columns, one row a key and time; it takes the place of what was there."""
    owner = group_of(caller, group)
    await run_in_threadpool(features.registry.view, owner, name)
    draft = await features.rows.receive(owner, request.stream())
    keep = partial(features.layers.keep, left_out=left_out)
    return await run_in_threadpool(keep, caller, owner, name, draft, sha256)


@router.post("/views/{name}/rows", dependencies=[Depends(told)])
async def push(
    name: Name, request: Request, *, features: InFeatures, caller: Writer, group: Group = None, sha256: Digest = None
) -> Pushed:
    """The body is Parquet as above; its rows are added, and readable online when this answers."""
    owner = group_of(caller, group)
    await run_in_threadpool(features.registry.view, owner, name)
    draft = await features.rows.receive(owner, request.stream())
    return await run_in_threadpool(features.pushing.push, caller, owner, name, draft, sha256)


@router.get("/views/{name}/data", response_class=FileResponse)
def rows(name: Name, features: InFeatures, caller: Reader, group: Group = None, sha256: Digest = None) -> FileResponse:
    """The rows as Parquet."""
    path = features.rows.file(caller, group_of(caller, group), name, sha256)
    return FileResponse(path, media_type="application/vnd.apache.parquet", headers={"etag": f'"{path.stem}"'})


@router.get("/views/{name}/quarantine", response_class=FileResponse)
def quarantine(
    name: Name, sha256: Annotated[Sha256, Query()], features: InFeatures, caller: Reader, group: Group = None
) -> FileResponse:
    """Rows that are not as the view expects, as Parquet; a column says why."""
    path = features.quarantining.file(caller, group_of(caller, group), name, sha256)
    return FileResponse(path, media_type="application/vnd.apache.parquet", headers={"etag": f'"{path.stem}"'})


@router.get("/views/{name}/poison")
def poison(
    name: Name,
    features: InFeatures,
    caller: Reader,
    group: Group = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> list[PoisonedMessage]:
    """Messages of the view's topics that were no rows, the newest first: where they stand and why."""
    return features.streaming.poison(group_of(caller, group), name, limit)


@router.post("/views/{name}/materialize", status_code=202)
def materialize(name: Name, body: Span, features: InFeatures, caller: Writer) -> Materialization:
    """Ask for a run; it is done when its state says so."""
    group = group_of(caller, body.group)
    return features.materializing.ask(caller, group, name, body.since, body.until, full=body.full)


@router.get("/materializations/{run}")
def materialization(run: Annotated[Ulid, Path()], features: InFeatures, caller: Reader) -> Materialization:
    return features.materializing.get(caller, run)


@router.post("/entities/{name}/erase", status_code=202)
def erase(name: Name, body: Whom, features: InFeatures, caller: Writer) -> Erasure:
    """Remove one entity, online and from all rows there ever were; it is done when its state says so."""
    return features.erasing.ask(caller, group_of(caller, body.group), name, body.keys)


@router.get("/erasures/{erasure}")
def erasure(erasure: Annotated[Ulid, Path()], features: InFeatures, caller: Reader) -> Erasure:
    return features.erasing.get(caller, erasure)


@router.put("/services/{name}", dependencies=[Depends(told)])
def put_service(
    name: Name, body: FeatureService, features: InFeatures, caller: Writer, group: Group = None
) -> ServiceSpec:
    """A service that differs from the newest, or whose views have changed, is the next version."""
    _same(name, body.name)
    return features.registry.put_service(caller, group_of(caller, group), body)


@router.get("/services")
def services(
    features: InFeatures, caller: Reader, group: Group = None, limit: Limit = 100, after: After = ""
) -> list[ServiceSpec]:
    return features.registry.services(group_of(caller, group), limit=limit, after=after)


@router.get("/services/{name}")
def service(name: Ref, features: InFeatures, caller: Reader, group: Group = None) -> ServiceSpec:
    return features.registry.service(group_of(caller, group), name)


@router.get("/freshness")
def freshness(features: InFeatures, caller: Reader, group: Group = None) -> list[Freshness]:
    """How far each view reaches, offline and online."""
    return features.registry.freshness(group_of(caller, group))


def _same(path: str, body: str) -> None:
    if path != body:
        raise Invalid(f"The path says '{path}', the body '{body}'.", "Send one name.")
