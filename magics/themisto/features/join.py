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

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid
from themisto.features.beside import beside, side_by_side, with_on_demand
from themisto.features.dtypes import is_time
from themisto.features.engine import Bounds, Told, bounded, watched
from themisto.features.merging import MEMORY_BYTES, merged
from themisto.features.models import FeatureView
from themisto.features.records import ServiceSpec
from themisto.features.sources import conform, quoted, schema_of, times
from themisto.features.spark import SparkJob
from themisto.features.spark_join import by_spark, written_asked
from themisto.features.spines import Spine, written_to
from themisto.features.windowing import windowed

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

__all__ = ["events", "point_in_time", "time_column"]

_ROWS = 200_000
_FIRST = "CREATE OR REPLACE TEMP TABLE entities_ AS SELECT * FROM part_"
_ADDED = "INSERT INTO entities_ SELECT * FROM part_"


def point_in_time(
    entities: Any,
    at: str,
    spec: ServiceSpec,
    files: Mapping[str, Path],
    views: Mapping[str, FeatureView],
    *,
    known: bool = False,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
    told: Told | None = None,
    to: Path | None = None,
) -> Any:
    """`entities` with the columns of `spec` as they were at `entities[at]`, in what they came in (see `Spine`).

    files: for each view its Parquet file, as `write_parquet` makes it.
    views: for each view its definition.
    known: see only rows that had been created by then, in views that have a created time.
    bounds: memory, and where the rest goes. told: hears how far it is.
    to: write the result to this Parquet file, row by row, and give its path.
    Raises Invalid where a key or the time is missing or of another type, or a feature's name is taken.
    """
    with bounded(bounds) as (con, folder):
        spine = Spine(entities, folder)
        _check(spine, at, spec)
        if to is not None and spine.in_file and to.resolve() == spine.given.resolve():
            raise Invalid(f"'{to.name}' is the spine itself.", "Write the result to another file.")

        plain = _only(spec, set(spec.views) - set(spec.windows))
        job = SparkJob() if bounds.engine is not None and plain.columns else None

        def join() -> Any:
            found: Any = None
            if job is not None:
                asked = written_asked(_asked(spine, at, spec), folder / "asked.parquet")
                found = by_spark(asked, plain, files, views, known=known, bounds=bounds, folder=folder, job=job)
                if spec.windows:
                    _lay(con, spine, at, spec)
                    rest = _by_sql(con, _only(spec, set(spec.windows)), files, views, known=known)
                    found = side_by_side(spec, found, rest.to_arrow_reader(_ROWS))
            else:
                laid = _lay(con, spine, at, spec)
                if laid is not None:
                    found = merged(*laid, spec, files, views, known=known, memory_bytes=_share(bounds))
                if found is None:
                    stored = _by_sql(con, spec, files, views, known=known)
                    found = stored.to_arrow_table() if to is None else stored.to_arrow_reader(_ROWS)
            return _answered(con, spine, spec, found, to)

        return watched(con, join, what="The join", bounds=bounds, told=told, elsewhere=job)


def _answered(con: duckdb.DuckDBPyConnection, spine: Spine, spec: ServiceSpec, found: Any, to: Path | None) -> Any:
    """The spine with what was found, an Arrow table or reader: in a file where one is named, else as it came."""
    if to is not None:
        return written_to(to, beside(spine, found.to_reader(_ROWS) if hasattr(found, "to_reader") else found, spec))
    table = found.read_all() if hasattr(found, "read_all") else found
    if spec.on_demand:
        table = with_on_demand(spec, table, spine)
    return spine.joined(_frame(con, table) if spine.of_pandas else table)


def _check(spine: Spine, at: str, spec: ServiceSpec) -> None:
    taken = sorted({c.name for c in spec.outputs} & set(spine.names))
    if taken:
        raise Invalid(f"The entity rows already have {', '.join(taken)}.", "Drop or rename these columns first.")
    absent = [n for n in (*spec.brought, at) if n not in spine.names]
    if absent:
        raise Invalid(
            f"The entity rows have no column {', '.join(absent)}.",
            f"{spec.ref} needs {', '.join(spec.brought)} and a time; choose it with at= (--at).",
        )


def _share(bounds: Bounds) -> int:
    """Bytes of the bounds that a join outside DuckDB may take."""
    return MEMORY_BYTES if bounds.memory_gib is None else min(MEMORY_BYTES, int(bounds.memory_gib * 2**29))


def _lay(
    con: duckdb.DuckDBPyConnection, spine: Spine, at: str, spec: ServiceSpec
) -> tuple[Mapping[str, Any], Any] | None:
    """`entities_`: number, time and keys of the spine's rows; those of a file in the engine's own, which can spill.

    Keys and times of a spine that is in memory are the answer, too.
    """
    for number, table in enumerate(_asked(spine, at, spec)):
        if not spine.in_file:
            con.register("entities_", table)
            return {k.name: table[f"k{i}"] for i, k in enumerate(spec.keys)}, table["at_"]
        con.register("part_", table)
        con.execute(_ADDED if number else _FIRST)
        con.unregister("part_")
    return None


def _asked(spine: Spine, at: str, spec: ServiceSpec) -> Iterator[pa.Table]:
    """Number, time and keys of the spine's rows, part by part."""
    import numpy as np
    import pyarrow as pa

    keys, begun = [k.name for k in spec.keys], 0
    for part in spine.parts(list(dict.fromkeys([*keys, at]))):
        arrays = conform(part, spec.keys)
        numbers = pa.array(np.arange(begun, begun + len(part), dtype=np.int64))
        when = times(_of_no_type(part, at), at)
        yield pa.table({"n_": numbers, "at_": when} | {f"k{i}": arrays[k] for i, k in enumerate(keys)})
        begun += len(part)


def _only(spec: ServiceSpec, views: Collection[str]) -> ServiceSpec:
    """The stored features of some of its views."""
    columns = tuple(c for c in spec.columns if c.view in views)
    return spec.model_copy(update={"columns": columns, "on_demand": ()})


def _by_sql(
    con: duckdb.DuckDBPyConnection,
    spec: ServiceSpec,
    files: Mapping[str, Path],
    views: Mapping[str, FeatureView],
    *,
    known: bool,
) -> duckdb.DuckDBPyRelation:
    """The columns of `spec` for each row of `entities_`, in order, by DuckDB."""
    for i, name in enumerate(spec.views):
        con.read_parquet(str(files[name])).create_view(f"rows{i}")
        of_entities = _windowed if name in spec.windows else _of_view
        con.execute(f"CREATE VIEW v{i} AS {of_entities(views[name], f'rows{i}', spec, known=known)}")
    return con.sql(_sql(spec, views))


def _of_no_type(part: pa.Table, at: str) -> pa.Table:
    """A column without one value has no type; as a time it finds nothing, which is right."""
    import pyarrow as pa

    if not pa.types.is_null(part[at].type):
        return part
    none: Any = part[at].cast(pa.timestamp("us", "UTC"))
    return pa.table({at: none})


def time_column(frame: Any, preferred: Mapping[str, str]) -> str:
    """The column that says when: the views' own event-time name, else the only time column there is."""
    if hasattr(frame, "iloc"):
        import pandas as pd

        names = list(frame.columns)
        found = [str(c) for c in names if pd.api.types.is_datetime64_any_dtype(frame[c])]
    else:
        schema = frame.schema if isinstance(getattr(frame, "schema", None), _arrow_schema()) else schema_of(frame)
        names, found = schema.names, [field.name for field in schema if is_time(field.type)]
    for name in preferred.values():
        if name in names:
            return name
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


def _arrow_schema() -> type:
    import pyarrow as pa

    return pa.Schema


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
