"""The point-in-time join: for each entity row the newest event at or before its own time, never a later one.

For every view the join takes the last event whose key equals and whose time is at or before the
entity's time, and keeps it only if it is not older than the view's ttl (exactly ttl old still counts).
Rows, order, index and doubles of the entity frame stay as they are. A NULL key or a NaT time finds
nothing: its features are null. Of rows with one key and event time the one created last counts (see
`sources.write_parquet`), so an answer is never a matter of luck.

A windowed view answers with the windows of its events at the entity's time (see `windowing`); it has no ttl.

A view that knows when its rows were created may also be joined as it was known: then a row counts only from its
created time on, and what came late is not seen before it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid
from themisto.features.merging import merged
from themisto.features.models import FeatureView
from themisto.features.on_demand import Expressions
from themisto.features.records import ServiceSpec
from themisto.features.sources import as_table, conform, quoted, times
from themisto.features.windowing import windowed

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

__all__ = ["events", "point_in_time", "time_column"]


def point_in_time(
    entities: pd.DataFrame,
    at: str,
    spec: ServiceSpec,
    files: Mapping[str, Path],
    views: Mapping[str, FeatureView],
    *,
    known: bool = False,
) -> pd.DataFrame:
    """`entities` with the columns of `spec` as they were at `entities[at]`.

    files: for each view its Parquet file, as `write_parquet` makes it.
    views: for each view its definition.
    known: see only rows that had been created by then, in views that have a created time.
    Raises Invalid where a key or the time is missing or of another type, or a feature's name is taken.
    """
    import duckdb
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    taken = sorted({c.name for c in spec.outputs} & set(map(str, entities.columns)))
    if taken:
        raise Invalid(f"The entity rows already have {', '.join(taken)}.", "Drop or rename these columns first.")
    keys = [k.name for k in spec.keys]
    absent = [n for n in (*spec.brought, at) if n not in entities.columns]
    if absent:
        raise Invalid(
            f"The entity rows have no column {', '.join(absent)}.",
            f"{spec.ref} needs {', '.join(spec.brought)} and a time; choose it with at= (--at).",
        )
    asked = as_table(entities, list(dict.fromkeys([*keys, at])))
    arrays = conform(asked, spec.keys)
    when = times(asked, at)
    with duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        merely = merged(arrays, when, spec, files, views, known=known)
        if merely is not None:
            stored = con.from_arrow(merely)
        else:
            columns: dict[str, Any] = {"n_": pa.array(np.arange(len(entities), dtype=np.int64)), "at_": when}
            columns |= {f"k{i}": arrays[k] for i, k in enumerate(keys)}
            con.register("entities_", pa.table(columns))
            for i, name in enumerate(spec.views):
                con.read_parquet(str(files[name])).create_view(f"rows{i}")
                of_entities = _windowed if name in spec.windows else _of_view
                con.execute(f"CREATE VIEW v{i} AS {of_entities(views[name], f'rows{i}', spec, known=known)}")
            stored = con.sql(_sql(spec, views))
        if spec.on_demand:
            features = _with_on_demand(spec, stored.to_arrow_table(), entities)
        else:
            features = stored.df() if merely is None else _frame(con, merely)
    features.index = entities.index
    joined: pd.DataFrame = pd.concat([entities, features], axis=1)
    return joined


def time_column(frame: pd.DataFrame, preferred: Mapping[str, str]) -> str:
    """The column that says when: the views' own event-time name, else the only time column there is."""
    for name in preferred.values():
        if name in frame.columns:
            return name
    import pandas as pd

    found = [str(c) for c in frame.columns if pd.api.types.is_datetime64_any_dtype(frame[c])]
    if len(found) == 1:
        return found[0]
    which = f"There are {', '.join(found)}." if found else "None is a time; use pd.to_datetime."
    raise Invalid("It is not clear which column is the time.", f"Choose it with at= (--at). {which}")


def _frame(con: duckdb.DuckDBPyConnection, stored: pa.Table) -> pd.DataFrame:
    """As DuckDB makes a DataFrame of it; numbers that need no change do not go that way."""
    import pandas as pd
    import pyarrow as pa

    plain = [column.name for column in stored.schema if pa.types.is_floating(column.type)]
    others = stored.drop_columns(plain)
    rest = con.from_arrow(others).df() if others.num_columns else {}
    columns = {name: stored[name].to_numpy() if name in plain else rest[name] for name in stored.column_names}
    return pd.DataFrame(columns, copy=False)


def _with_on_demand(spec: ServiceSpec, stored: Any, entities: pd.DataFrame) -> pd.DataFrame:
    """The stored features, and those that are computed of them and of the entity rows' own columns."""
    import duckdb
    import pyarrow as pa

    names = [c.name for c in spec.request]
    brought = conform(as_table(entities, names), spec.request)
    found = {c.name: stored[c.name] for c in spec.columns}
    computed = Expressions(spec).of_table(pa.table(found | brought))
    whole = pa.table(found | {c.name: computed[c.name] for c in spec.on_demand})
    with duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        frame: pd.DataFrame = con.from_arrow(whole).df()
    return frame


def _windowed(view: FeatureView, rows: str, spec: ServiceSpec, *, known: bool) -> str:
    """For each entity row its windows."""
    columns = {k.name: f"k{i}" for i, k in enumerate(spec.keys)}
    place = {k: columns[k] for k in spec.view_keys[view.name]}
    features = [c.feature for c in spec.of(view.name)]
    return windowed(view, spec.windows[view.name], features, rows=rows, place=place, known=known)


def _of_view(view: FeatureView, rows: str, spec: ServiceSpec, *, known: bool) -> str:
    return events(view, rows, known=known)


def events(view: FeatureView, rows: str, *, known: bool) -> str:
    """The rows of a view by key and `from_`, the time from which each counts; one a key and `from_`."""
    at = quoted(view.at)
    if view.created is None:
        return f"SELECT *, {at} AS from_ FROM {rows}"  # noqa: S608 - quoted names, here and below
    keys, created = ", ".join(quoted(k.name) for k in view.keys), quoted(view.created)
    if not known:
        return f"SELECT DISTINCT ON ({keys}, {at}) *, {at} AS from_ FROM {rows} ORDER BY {keys}, {at}, {created} DESC"  # noqa: S608
    newest = (
        f"SELECT from_, arg_max(r, ({at}, {created})) OVER (PARTITION BY {keys} ORDER BY from_, {at}, {created} "  # noqa: S608
        f"ROWS UNBOUNDED PRECEDING) AS r FROM (SELECT *, greatest({at}, {created}) AS from_ FROM {rows}) r "
        f"QUALIFY row_number() OVER (PARTITION BY {keys}, from_ ORDER BY {at} DESC, {created} DESC) = 1"
    )
    return f"SELECT unnest(struct_pack({_packed(view)})), from_ FROM ({newest})"  # noqa: S608


def _packed(view: FeatureView) -> str:
    names = [quoted(n) for n in (*(k.name for k in view.keys), view.at, *(f.name for f in view.features))]
    return ", ".join(f"{n} := r.{n}" for n in names)


def _sql(spec: ServiceSpec, views: Mapping[str, FeatureView]) -> str:
    """One ASOF join a view, over names of our own; what a person named is only ever quoted."""
    place = {k.name: f"k{i}" for i, k in enumerate(spec.keys)}
    joins, columns = [], []
    for i, view in enumerate(spec.views):
        equal = " AND ".join(f"e.{place[k]} = v{i}.{quoted(k)}" for k in spec.view_keys[view])
        if view in spec.windows:
            joins.append(f"LEFT JOIN v{i} ON e.n_ = v{i}.n_")
        else:
            joins.append(f"ASOF LEFT JOIN v{i} ON {equal} AND e.at_ >= v{i}.from_")
        ttl, at = spec.ttl_s[view], f"v{i}.{quoted(views[view].at)}"
        holds = None if ttl is None else f"{at} >= e.at_ - to_microseconds({round(ttl * 1_000_000)})"
        for column in spec.of(view):
            value = f"v{i}.{quoted(column.feature)}"
            columns.append((column.name, value if holds is None else f"CASE WHEN {holds} THEN {value} END"))
    order = {c.name: n for n, c in enumerate(spec.columns)}
    columns.sort(key=lambda c: order[c[0]])
    chosen = ", ".join(f"{value} AS {quoted(name)}" for name, value in columns)
    return f"SELECT {chosen} FROM entities_ e {' '.join(joins)} ORDER BY e.n_"  # noqa: S608 - quoted names
