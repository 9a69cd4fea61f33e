"""Reading a service online: one lookup a view, the answers side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from themisto.errors import Invalid
from themisto.features.dtypes import micros, to_json
from themisto.features.models import Column, Online
from themisto.features.on_demand import with_on_demand
from themisto.features.online import OnlineStore, OnlineTable, Row, encode_key, table_name
from themisto.features.records import ServiceSpec
from themisto.features.tiles import part_of, read_windows
from themisto.types import Model, utcnow

__all__ = ["Found", "as_json", "cast_key", "read_online", "tables_of"]

_LIMIT = 10_000


class Found(Model):
    """What the store had: values a row (None: nothing), the oldest event time a row, which rows lack a view.

    view_times: of each view the event time a row, if asked for.
    """

    rows: list[list[Any]]
    event_times: list[datetime | None]
    incomplete: tuple[int, ...]
    view_times: Mapping[str, list[datetime | None]] = {}


def tables_of(spec: ServiceSpec) -> dict[str, OnlineTable]:
    """For each view of the service the table to read, with only the columns the service uses."""
    return {view: _table(spec, view, version) for view, version in spec.views.items()}


def _table(spec: ServiceSpec, view: str, version: int) -> OnlineTable:
    name, online = table_name(spec.group, view, version), spec.online.get(view, Online())
    if view in spec.windows:
        return part_of(OnlineTable.of_tiles(name, spec.windows[view], online), [c.feature for c in spec.of(view)])
    columns = tuple(Column(name=c.feature, dtype=c.dtype) for c in spec.of(view))
    return OnlineTable(name=name, columns=columns, online=online)


def read_online(
    store: OnlineStore,
    spec: ServiceSpec,
    entities: Sequence[Mapping[str, Any]],
    *,
    tables: Mapping[str, OnlineTable] | None = None,
    view_times: bool = False,
    clock: Callable[[], datetime] = utcnow,
) -> Found:
    """The newest features of `entities`, in their order; defaults filled in where the service has them.

    Raises Invalid for an entity without one of the keys, or with one of another type.
    """
    if len(entities) > _LIMIT:
        raise Invalid(f"{len(entities)} entities in one request.", f"Ask for at most {_LIMIT}.")
    _check_keys(spec, entities)
    tables = tables or tables_of(spec)
    now = clock()
    parts = [
        _part(store, tables[view], [c.feature for c in spec.of(view)], _keys(spec, view, entities), now)
        for view in spec.views
    ]
    if spec.max_age_s is not None and spec.on_missing != "last":
        limit = (now.timestamp() - spec.max_age_s) * 1_000_000
        aging = [view not in spec.windows for view in spec.views]
        parts = [
            [None if row is None or (ages and row[1] < limit) else row for row in part]
            for part, ages in zip(parts, aging, strict=True)
        ]
    widths = [len(spec.of(view)) for view in spec.views]
    order = _order(spec)
    rows, moments, incomplete = [], [], []
    for i in range(len(entities)):
        values: list[Any] = []
        oldest = None
        for part, width in zip(parts, widths, strict=True):
            row = part[i]
            if row is None:
                values.extend([None] * width)
                continue
            values.extend(row[3:])
            oldest = row[1] if oldest is None else min(oldest, row[1])
        if any(part[i] is None for part in parts):
            incomplete.append(i)
        rows.append(_with_defaults(spec, [values[n] for n in order]))
        moments.append(None if oldest is None else _moment(oldest))
    found = Found.model_construct(rows=rows, event_times=moments, incomplete=tuple(incomplete))
    if not view_times:
        return found
    times = {v: [None if r is None else _moment(r[1]) for r in part] for v, part in zip(spec.views, parts, strict=True)}
    return found.model_copy(update={"view_times": times})


def as_json(
    spec: ServiceSpec, rows: Sequence[Sequence[Any]], entities: Sequence[Mapping[str, Any]]
) -> tuple[tuple[str, ...], list[list[Any]]]:
    """Names and rows as the feature API sends them; on-demand features too, where the entities bring their columns."""
    columns, whole = with_on_demand(spec, rows, entities)
    return tuple(c.name for c in columns), [
        [to_json(c.dtype, v) for c, v in zip(columns, row, strict=True)] for row in whole
    ]


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


def _keys(spec: ServiceSpec, view: str, entities: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = [k for k in spec.keys if k.name in spec.view_keys[view]]
    columns.sort(key=lambda k: spec.view_keys[view].index(k.name))
    return [encode_key(columns, [e[k.name] for k in columns]) for e in entities]


def _part(
    store: OnlineStore, table: OnlineTable, features: Sequence[str], keys: Sequence[str], now: datetime
) -> list[Row | None]:
    if table.windows is None:
        return store.read(table, keys)
    return [*read_windows(store, table, features, keys, micros(now))]


def _check_keys(spec: ServiceSpec, entities: Sequence[Mapping[str, Any]]) -> None:
    names = {k.name for k in spec.keys}
    extra = {c.name for c in spec.request}
    for entity in entities:
        if not names <= entity.keys() <= names | extra:
            missing = sorted(names - entity.keys()) or sorted(entity.keys() - names - extra)
            what = "lacks" if names - entity.keys() else "has the unknown key"
            raise Invalid(
                f"An entity {what} {', '.join(missing)}.", f"{spec.ref} is read by {', '.join(sorted(names))}."
            )


def _moment(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def _order(spec: ServiceSpec) -> list[int]:
    """Place of each service column among the values read view by view."""
    read = [c.name for view in spec.views for c in spec.of(view)]
    return [read.index(c.name) for c in spec.columns]


def _with_defaults(spec: ServiceSpec, values: list[Any]) -> list[Any]:
    if spec.on_missing != "default":
        return values
    return [spec.stand_ins[c.name] if v is None else v for c, v in zip(spec.columns, values, strict=True)]
