"""Reading a service online: which view is asked for which keys, and the answers side by side.

A read is planned once, asks each view once whatever the number of entities, and may ask the views at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from themisto.errors import Invalid, NotFound, did_you_mean
from themisto.features.dtypes import micros, moment_of
from themisto.features.models import Column, Online
from themisto.features.online import OnlineStore, OnlineTable, Row, encode_key, key_text, table_name
from themisto.features.records import ServiceColumn, ServiceSpec
from themisto.features.tiles import part_of, read_windows
from themisto.types import Model, utcnow

__all__ = ["MAX_ENTITIES", "Found", "Plan", "ViewRead", "cast_key", "not_online", "plan_of", "read_online", "read_view"]

MAX_ENTITIES = 10_000
"""Entities of one read."""


class Found(Model):
    """What the store had: values a row (None: nothing), the oldest event time a row, which rows lack a view.

    times: of each view the event time a row in µs, None where there is no row. A row too old for the service has one.
    """

    rows: list[list[Any]]
    event_times: list[datetime | None]
    incomplete: tuple[int, ...]
    times: Mapping[str, list[int | None]] = {}


@dataclass(frozen=True, slots=True)
class ViewRead:
    """What a read asks of one view.

    features: columns of the view, in the order of the table's. keys: the view's own, in its order.
    """

    name: str
    version: int
    table: OnlineTable
    features: tuple[str, ...]
    keys: tuple[Column, ...]

    def keys_of(self, entities: Sequence[Mapping[str, Any]]) -> list[str]:
        """One text an entity. Raises Invalid for a value that is not of its key's type."""
        names = [key.name for key in self.keys]
        if len(names) == 1:
            column, name = self.keys[0], names[0]
            return [key_text(column, e[name]) for e in entities]
        return [encode_key(self.keys, [e[name] for name in names]) for e in entities]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a read of a service asks of which view.

    columns: what is read, in the order of the answer. order: the place of each among all that the views answer.
    """

    spec: ServiceSpec
    columns: tuple[ServiceColumn, ...]
    views: tuple[ViewRead, ...]
    order: tuple[int, ...]

    def check(self, entities: Sequence[Mapping[str, Any]]) -> None:
        """Raises Invalid for too many, for one without a key, or with a name that the service does not know."""
        if len(entities) > MAX_ENTITIES:
            raise Invalid(f"{len(entities)} entities in one request.", f"Ask for at most {MAX_ENTITIES}.")
        names = {k.name for k in self.spec.keys}
        known = names | {c.name for c in self.spec.request}
        for entity in entities:
            if entity.keys() == names or names <= entity.keys() <= known:
                continue
            lacking = sorted(names - entity.keys())
            what, which = ("lacks", lacking) if lacking else ("has the unknown key", sorted(entity.keys() - known))
            near = did_you_mean(str(next(iter(entity.keys() - known), "")), names - entity.keys())
            raise Invalid(
                f"An entity {what} {', '.join(which)}.",
                near or f"{self.spec.ref} is read by {', '.join(sorted(names))}.",
            )

    def together(self, parts: Sequence[Sequence[Row | None]], now: datetime) -> Found:
        """The answers of the views, each a row an entity, as rows of the service; its defaults filled in."""
        times = {v.name: [None if r is None else r[1] for r in part] for v, part in zip(self.views, parts, strict=True)}
        parts = [self._holding(v, part, now) for v, part in zip(self.views, parts, strict=True)]
        nothing = [[None] * len(v.features) for v in self.views]
        order = None if self.order == tuple(range(len(self.order))) else self.order
        defaults = self._defaults()
        rows, moments, incomplete = [], [], []
        for i, found in enumerate(zip(*parts, strict=True)):
            values: list[Any] = []
            oldest = None
            for row, empty in zip(found, nothing, strict=True):
                if row is None:
                    values += empty
                    continue
                values += row[3:]
                if oldest is None or row[1] < oldest:
                    oldest = row[1]
            if None in found:
                incomplete.append(i)
            if order is not None:
                values = [values[n] for n in order]
            if defaults is not None:
                values = [d if v is None else v for v, d in zip(values, defaults, strict=True)]
            rows.append(values)
            moments.append(None if oldest is None else moment_of(oldest))
        return Found.model_construct(rows=rows, event_times=moments, incomplete=tuple(incomplete), times=times)

    def _holding(self, view: ViewRead, part: Sequence[Row | None], now: datetime) -> Sequence[Row | None]:
        """Without the rows that are too old for the service. Windows are of now."""
        spec = self.spec
        if spec.max_age_s is None or spec.on_missing == "last" or view.table.windows is not None:
            return part
        oldest = (now.timestamp() - spec.max_age_s) * 1_000_000
        return [None if row is None or row[1] < oldest else row for row in part]

    def _defaults(self) -> list[Any] | None:
        return [self.spec.stand_ins[c.name] for c in self.columns] if self.spec.on_missing == "default" else None


def plan_of(spec: ServiceSpec, features: Sequence[str] | None = None) -> Plan:
    """What to ask for the stored columns of a service, or for some of them, in the order of these names.

    Raises Invalid for a feature that is none of its stored ones.
    """
    by_name = {c.name: c for c in spec.columns}
    unknown = [] if features is None else [name for name in features if name not in by_name]
    if unknown:
        raise Invalid(
            f"{spec.ref} has no feature {', '.join(repr(name[:60]) for name in unknown[:5])}.",
            did_you_mean(unknown[0], by_name, f"It has {', '.join(by_name)}."),
        )
    columns = spec.columns if features is None else tuple(by_name[name] for name in dict.fromkeys(features))
    needed = {c.name for c in columns}
    views = tuple(
        _view_read(spec, view, version, [c for c in spec.of(view) if c.name in needed])
        for view, version in spec.views.items()
        if any(c.view == view for c in columns)
    )
    read = [c.name for view in spec.views for c in spec.of(view) if c.name in needed]
    return Plan(spec, columns, views, tuple(read.index(c.name) for c in columns))


def _view_read(spec: ServiceSpec, view: str, version: int, columns: Sequence[ServiceColumn]) -> ViewRead:
    by_name = {k.name: k for k in spec.keys}
    keys = tuple(by_name[name] for name in spec.view_keys[view])
    features = tuple(c.feature for c in columns)
    name, online = table_name(spec.group, view, version), spec.online.get(view, Online())
    if view in spec.windows:
        table = part_of(OnlineTable.of_tiles(name, spec.windows[view], online), features)
    else:
        columns_ = tuple(Column(name=c.feature, dtype=c.dtype) for c in columns)
        table = OnlineTable(name=name, columns=columns_, online=online)
    return ViewRead(view, version, table, features, keys)


def read_view(store: OnlineStore, view: ViewRead, keys: Sequence[str], now: datetime) -> Sequence[Row | None]:
    """One view's rows for all keys, by one read of the store. Raises NotFound where it was never brought online."""
    try:
        if view.table.windows is None:
            return store.read(view.table, keys)
        return read_windows(store, view.table, view.features, keys, micros(now))
    except NotFound as error:
        raise not_online(view) from error


def not_online(view: ViewRead) -> NotFound:
    """What is said where a view's table was never made."""
    return NotFound(f"The view '{view.name}' has no online rows yet.", f"Run %features materialize {view.name}.")


def read_online(
    store: OnlineStore,
    spec: ServiceSpec,
    entities: Sequence[Mapping[str, Any]],
    *,
    plan: Plan | None = None,
    clock: Callable[[], datetime] = utcnow,
) -> Found:
    """The newest features of `entities`, in their order; defaults filled in where the service has them.

    One view after the other, for a store without a network. Raises Invalid for an entity without one of the keys, or
    with one of another type.
    """
    plan = plan or plan_of(spec)
    plan.check(entities)
    now = clock()
    return plan.together([read_view(store, v, v.keys_of(entities), now) for v in plan.views], now)


def cast_key(column: Column, value: Any) -> Any:
    """A key, or what a request brings, as typed on a command line, or held in a DataFrame, as its own type."""
    item = value.item() if hasattr(value, "item") else value
    if column.dtype == "string":
        return item if isinstance(item, str) else str(item)
    if isinstance(item, str):
        text = item.strip().lower()
        if column.dtype in ("float32", "float64"):
            with suppress(ValueError):
                return float(text)
        if column.dtype == "bool" and text in ("true", "false", "1", "0"):
            return text in ("true", "1")
        if column.dtype.startswith("int") and text.lstrip("+-").isdigit():
            return int(text)
    if isinstance(item, float) and item.is_integer() and column.dtype.startswith("int"):
        return int(item)
    return item
