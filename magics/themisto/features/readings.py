"""Readings: what was read for a service, column by column, in the store's own values; every answer is made of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from themisto.errors import Invalid, NotFound, did_you_mean
from themisto.features.dtypes import Dtype, micros
from themisto.features.on_demand import Expressions, OnDemand
from themisto.features.online import OnlineStore, Row
from themisto.features.reading import Found, Plan, ViewRead, not_online, plan_of, read_online
from themisto.features.records import ServiceColumn, ServiceSpec
from themisto.types import utcnow

__all__ = [
    "MAX_FEATURES",
    "MAX_LAST",
    "Asked",
    "Reading",
    "ReadingColumn",
    "ReadingView",
    "State",
    "asked_for",
    "check_last",
    "histories",
    "read_last",
    "read_service",
    "reading",
    "request_of",
]

MAX_LAST = 100_000
"""Values of one feature in one answer: entities times the last values of each."""
MAX_FEATURES = 1000
"""Features that one request may name."""

State = Literal["present", "stale", "missing"]
"""Of an entity in a view. present: there is a row, and it holds. stale: there is one, older than the view's ttl or than
the service takes. missing: there is none."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What one request wants of a service.

    features: the answer's columns by name. computed: whether on-demand features are among them.
    """

    plan: Plan
    features: tuple[str, ...]
    computed: bool
    history: int | None


@dataclass(frozen=True, slots=True)
class ReadingColumn:
    """A feature: one value an entity, or the last ones of each, newest first. view: None where it was computed."""

    name: str
    dtype: Dtype
    view: str | None
    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class ReadingView:
    """What stands behind the columns of a view. times: in µs, as the values of its columns."""

    name: str
    version: int
    ttl_s: float | None
    states: list[State]
    times: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """A service, read at a moment."""

    spec: ServiceSpec
    at: datetime
    entities: int
    history: int | None
    columns: tuple[ReadingColumn, ...]
    views: tuple[ReadingView, ...]


def read_service(
    store: OnlineStore,
    spec: ServiceSpec,
    entities: Sequence[Mapping[str, Any]],
    *,
    features: Sequence[str] | None = None,
    history: int | None = None,
    clock: Callable[[], datetime] = utcnow,
) -> Reading:
    """All of a read, one view after the other: for a store without a network. Raises Invalid as `asked_for` does."""
    asked = asked_for(spec, features, history, entities[0] if entities else {})
    now = clock()
    if history is not None:
        asked.plan.check(entities)
        count = check_last(asked, len(entities))
        parts = [read_last(store, view, view.keys_of(entities), count) for view in asked.plan.views]
        return histories(asked, parts, now)
    found = read_online(store, spec, entities, plan=asked.plan, clock=lambda: now)
    if asked.computed and entities:
        request = request_of(spec, entities)
        found = found.model_copy(update={"rows": Expressions(spec).of_rows(found.rows, request)})
    return reading(asked, found, now)


def request_of(spec: ServiceSpec, entities: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What the entities bring for on-demand features, a column each; what any of them lacks is left away."""
    return {c.name: [e[c.name] for e in entities] for c in spec.request if all(c.name in e for e in entities)}


def asked_for(
    spec: ServiceSpec,
    features: Sequence[str] | None,
    history: int | None,
    brought: Mapping[str, Any],
    *,
    plan: Callable[[ServiceSpec, tuple[str, ...] | None], Plan] = plan_of,
) -> Asked:
    """What a request wants. brought: the entities' columns; on-demand features need those that they are computed of.

    plan: where plans are kept. Raises Invalid for features that the service has not, or that have no last values.
    """
    _check_names(spec, features)
    on_demand = {f.name for f in spec.on_demand}
    if history is not None:
        if set(features or ()) & on_demand:
            raise Invalid("A feature that is computed at the request has no last values.", "Ask for stored ones.")
        made = plan(spec, None if features is None else tuple(features))
        _check_kept(made, history)
        return Asked(made, tuple(c.name for c in made.columns), computed=False, history=history)
    if features is None:
        computed = bool(on_demand) and all(c.name in brought for c in spec.request)
        names = tuple(c.name for c in (spec.outputs if computed else spec.columns))
        return Asked(plan(spec, None), names, computed, None)
    computed = bool(on_demand.intersection(features))  # expressions may look at any stored feature
    return Asked(plan(spec, None if computed else tuple(features)), tuple(features), computed, None)


def _check_names(spec: ServiceSpec, features: Sequence[str] | None) -> None:
    if features is None:
        return
    known = [c.name for c in spec.outputs]
    if not features or len(features) > MAX_FEATURES:
        raise Invalid(
            f"{len(features)} features are asked for.", f"Name 1 to {MAX_FEATURES}, or leave it away for all."
        )
    unknown = [name for name in features if name not in known]
    if unknown:
        raise Invalid(
            f"{spec.ref} has no feature {', '.join(repr(name[:60]) for name in unknown[:5])}.",
            did_you_mean(unknown[0], known, f"It has {', '.join(known)}."),
        )
    if len(set(features)) < len(features):
        raise Invalid("A feature is asked for twice.", "Name each once.")


def _check_kept(plan: Plan, count: int) -> None:
    if count < 1:
        raise Invalid(f"The last {count} values of each entity are none.", "Ask for at least one.")
    for view in plan.views:
        if view.table.windows is not None:
            raise Invalid(
                f"'{view.name}' is computed of windows: it has no last values.",
                "Ask for the features of other views, by their names.",
            )
        kept = view.table.online.keep
        if count > kept:
            raise Invalid(
                f"'{view.name}' keeps the last {kept} of each entity; {count} were asked for.",
                f"Define it with online=Online(keep={count}) and materialize it with --full.",
            )


def reading(asked: Asked, found: Found, at: datetime) -> Reading:
    """What was found, as it was asked for. found: its rows have on-demand features behind, where they were computed."""
    spec = asked.plan.spec
    columns: Sequence[ServiceColumn | OnDemand] = asked.plan.columns
    if asked.computed:
        columns = spec.outputs
    values = list(zip(*found.rows, strict=True)) if found.rows else [()] * len(columns)
    by_name = {c.name: (c, v) for c, v in zip(columns, values, strict=True)}
    chosen = [by_name[name] for name in asked.features]
    return Reading(
        spec,
        at,
        len(found.rows),
        None,
        tuple(ReadingColumn(c.name, c.dtype, getattr(c, "view", None), v) for c, v in chosen),
        tuple(_view(spec, v, found.times[v.name], found.times[v.name], at) for v in asked.plan.views),
    )


def check_last(asked: Asked, entities: int) -> int:
    """How many last values of each are asked for. Raises Invalid where the answer would be too long."""
    count = asked.history or 1
    if entities * count > MAX_LAST:
        raise Invalid(
            f"The last {count} values of {entities} entities are more than {MAX_LAST:,}.",
            f"Ask for at most {max(1, MAX_LAST // count)} entities at once.",
        )
    return count


def read_last(store: OnlineStore, view: ViewRead, keys: Sequence[str], count: int) -> list[list[Row]]:
    """One view's last rows of each key, the newest first. Raises NotFound where it was never brought online."""
    try:
        return [rows[:count] for rows in store.history(view.table, keys, count)]
    except NotFound as error:
        raise not_online(view) from error


def histories(asked: Asked, parts: Sequence[Sequence[Sequence[Row]]], at: datetime) -> Reading:
    """The views' last rows of each entity, as they were asked for."""
    plan = asked.plan
    by_view = {view.name: (view, part) for view, part in zip(plan.views, parts, strict=True)}

    def values(column: ServiceColumn) -> list[list[Any]]:
        view, part = by_view[column.view]
        place = 3 + view.features.index(column.feature)
        return [[row[place] for row in rows] for rows in part]

    def seen(view: ViewRead, part: Sequence[Sequence[Row]]) -> ReadingView:
        times = [[row[1] for row in rows] for rows in part]
        return _view(plan.spec, view, times, [some[0] if some else None for some in times], at)

    return Reading(
        plan.spec,
        at,
        len(parts[0]) if parts else 0,
        asked.history,
        tuple(ReadingColumn(c.name, c.dtype, c.view, values(c)) for c in plan.columns),
        tuple(seen(*by_view[view.name]) for view in plan.views),
    )


def _view(
    spec: ServiceSpec, view: ViewRead, times: Sequence[Any], newest: list[int | None], at: datetime
) -> ReadingView:
    ttl_s = spec.ttl_s[view.name]
    return ReadingView(view.name, view.version, ttl_s, list(_states(spec, view, newest, at)), times)


def _states(spec: ServiceSpec, view: ViewRead, newest: list[int | None], at: datetime) -> Iterator[State]:
    """Exactly ttl old still holds, as in joins to the past. Windows are of now."""
    limits = [s for s in (spec.ttl_s[view.name], spec.max_age_s) if s is not None]
    ages = limits and view.table.windows is None
    oldest = micros(at) - round(min(limits) * 1_000_000) if ages else None
    for moment in newest:
        if moment is None:
            yield "missing"
        else:
            yield "stale" if oldest is not None and moment < oldest else "present"
