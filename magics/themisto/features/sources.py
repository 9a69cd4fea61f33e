"""A view's rows on their way in: types, times and keys made uniform, one Parquet file by digest."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid, NotFound
from themisto.features.columns import quoted
from themisto.features.dtypes import Dtype, arrow_type, dtype_of, is_time
from themisto.features.events import check_events
from themisto.features.models import Column, FeatureView
from themisto.features.records import ViewData
from themisto.types import utcnow

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = [
    "as_table",
    "conform",
    "describe",
    "digest_file",
    "dtypes_of",
    "has_columns",
    "key_sql",
    "merge",
    "quoted",
    "schema_of",
    "times",
    "verify",
    "write_parquet",
    "written",
]

_TO_TIME = "Convert it: df['{0}'] = pd.to_datetime(df['{0}'])."


def key_sql(view: FeatureView) -> str:
    """`online.encode_key` of a view's rows, in SQL."""
    texts = [f"CAST({quoted(k.name)} AS VARCHAR)" for k in view.keys]
    texts = [
        f"CASE WHEN {quoted(k.name)} THEN '1' ELSE '0' END" if k.dtype == "bool" else text
        for k, text in zip(view.keys, texts, strict=True)
    ]
    return texts[0] if len(texts) == 1 else " || ".join(f"length({text}) || ':' || {text}" for text in texts)


def as_table(source: Any, columns: Sequence[str] | None = None) -> pa.Table:
    """DataFrame (pandas, polars), Arrow table or path of a Parquet file as an Arrow table of `columns` (all)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            raise NotFound(f"There is no file '{path}'.", "Give the path of a Parquet file.")
        try:
            return pq.read_table(path, columns=list(columns) if columns is not None else None)
        except pa.ArrowException as error:
            raise _no_parquet(path, error) from None
    if type(source).__name__ == "LazyFrame":
        source = source.collect()
    if not hasattr(source, "columns") or not (hasattr(source, "iloc") or hasattr(source, "__arrow_c_stream__")):
        raise Invalid(f"A {type(source).__name__} is no source.", "Give a DataFrame or the path of a Parquet file.")
    if not hasattr(source, "iloc"):  # Arrow itself, polars, and whatever else speaks Arrow's interface
        table = source if isinstance(source, pa.Table) else pa.table(source)
        _check_there(columns, table.column_names)
        return table.select(list(columns)) if columns is not None else table
    _check_there(columns, source.columns)
    frame = source[list(columns)] if columns is not None else source
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError) as error:
        raise Invalid(f"The DataFrame cannot be typed: {error}.", "Give each column one type.") from None


def _check_there(wanted: Sequence[str] | None, there: Sequence[Any]) -> None:
    missing = [name for name in wanted or () if name not in there]
    if missing:
        raise Invalid(f"There is no column {', '.join(missing)}.", f"There are {', '.join(map(str, there[:20]))}.")


def dtypes_of(
    source: Any, keys: Sequence[str], at: str, created: str | None, features: Sequence[str] | None, *, view: str
) -> dict[str, Dtype]:
    """Types of the keys and then of the features (None: every other column) of `source`.

    Raises Invalid for what is missing or of no usable type.
    """
    schema = schema_of(source)
    moments = [n for n in (at, created) if n is not None]
    if features is None:
        features = [n for n in schema.names if n not in keys and n not in moments]
    missing = [n for n in (*keys, *moments, *features) if n not in schema.names]
    if missing:
        raise Invalid(
            f"FeatureView {view}: its source has no column {', '.join(missing)}.",
            f"It has {', '.join(schema.names[:20])}.",
        )
    for moment in moments:
        if not is_time(schema.field(moment).type):
            raise Invalid(f"FeatureView {view}: '{moment}' is not a time.", _TO_TIME.format(moment))
    for name in (*keys, *features):
        _identifier(name, view)
    return {name: dtype_of(name, schema.field(name).type) for name in (*keys, *features)}


def schema_of(source: Any) -> pa.Schema:
    """Names and types of a source's columns. Raises Invalid for what is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(source, str | Path) and Path(source).is_file():
        try:
            return pq.read_schema(source)
        except pa.ArrowException as error:
            raise _no_parquet(Path(source), error) from None
    return as_table(source).schema


def _no_parquet(path: Path, error: Exception) -> Invalid:
    return Invalid(f"'{path.name}' cannot be read as Parquet: {error}.", "Write it with to_parquet.")


def _identifier(name: str, view: str) -> None:
    import re

    if not re.fullmatch(r"[a-z][a-z0-9_]{0,47}", name):
        raise Invalid(
            f"FeatureView {view}: the column '{name[:60]}' is no identifier.",
            "Rename it: lower-case letters, digits and '_', a letter first, at most 48 characters.",
        )


def conform(table: pa.Table, columns: Sequence[Column]) -> dict[str, Any]:
    """The columns cast to their declared types, nothing lost. Raises Invalid where a value does not fit."""
    import pyarrow as pa

    found = {}
    for column in columns:
        try:
            array = table[column.name]
            if pa.types.is_dictionary(array.type):
                array = array.cast(array.type.value_type)
            is_text = pa.types.is_null(array.type) or dtype_of(column.name, array.type) == "string"
            if column.dtype == "string" and not is_text:
                raise pa.ArrowInvalid("a number is no text")
            if pa.types.is_floating(array.type) and column.dtype.startswith("int"):
                array = _without_nan(array)
            if column.dtype == "timestamp" and not pa.types.is_null(array.type):
                array = times(table, column.name)
            array = array.cast(arrow_type(column.dtype), safe="float" not in column.dtype)
        except KeyError:
            raise _no_column(column.name, table) from None
        except pa.ArrowException:
            raise Invalid(
                f"The column '{column.name}' is {table[column.name].type}, not {column.dtype}.",
                f"Convert it to {column.dtype}.",
            ) from None
        if array.null_count and not column.nullable:
            raise Invalid(
                f"'{column.name}' has {array.null_count} empty values and may have none.",
                "Fill them, or say nullable=True.",
            )
        found[column.name] = array
    return found


def _no_column(name: str, table: pa.Table) -> Invalid:
    return Invalid(f"There is no column '{name}'.", f"There are {', '.join(table.column_names[:20])}.")


def _without_nan(array: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)


def times(table: pa.Table, at: str) -> Any:
    """The time column in UTC microseconds; naive times are read as UTC."""
    import pyarrow as pa

    if at not in table.column_names:
        raise _no_column(at, table)
    array = table[at]
    if not is_time(array.type):
        raise Invalid(f"'{at}' is {array.type}, not a time.", _TO_TIME.format(at))
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("us"))
    return array.cast(pa.timestamp("us", "UTC"), safe=False)


def write_parquet(view: FeatureView, source: Any, folder: Path) -> tuple[Path, ViewData]:
    """The view's rows as `folder/<sha256>.parquet`: only its columns, sorted by key, event time and created time.

    Rows without key or time are left out; of rows with the same key and times the last one stays, of equal events
    of a windowed view the first.
    """
    import duckdb
    import numpy as np
    import pyarrow as pa

    names = _columns(view)
    table = as_table(source, names)
    arrays = conform(table, view.keys) | {n: times(table, n) for n in view.times} | conform(table, view.stored)
    clean = pa.table({n: arrays[n] for n in names})
    with duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("rows_", clean.append_column("n_", pa.array(np.arange(len(clean)))))
        if view.windows is not None:
            check_events(con, view)
        return written(con, view, folder)


def merge(view: FeatureView, paths: Sequence[Path], folder: Path) -> tuple[Path, ViewData]:
    """Several files of a view's rows as one: of rows with equal key and times the one in the later file stays."""
    import duckdb

    with duckdb.connect(":memory:") as con:
        chosen = ", ".join(map(quoted, _columns(view)))
        for i, path in enumerate(paths):
            con.read_parquet(str(path)).create_view(f"part{i}")
        parts = " UNION ALL ".join(f"SELECT {chosen}, {i} AS n_ FROM part{i}" for i in range(len(paths)))  # noqa: S608
        con.execute(f"CREATE VIEW rows_ AS {parts}")
        return written(con, view, folder)


def _columns(view: FeatureView) -> list[str]:
    return [*(k.name for k in view.keys), *view.times, *(f.name for f in view.stored)]


def written(con: duckdb.DuckDBPyConnection, view: FeatureView, folder: Path, *more: str) -> tuple[Path, ViewData]:
    """The table `rows_` of a connection as `folder/<sha256>.parquet`; `n_` says which of two equal rows came later.

    more: columns beside those of the view.
    """
    filled = [*(k.name for k in view.keys), *view.times]
    by, known = ", ".join(map(quoted, view.identity)), " AND ".join(f"{quoted(n)} IS NOT NULL" for n in filled)
    stays = "n_ DESC" if view.windows is None else ", ".join([*map(quoted, view.times[1:]), "n_"])
    folder.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(".draft", dir=folder)
    os.close(handle)
    try:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(
            f"COPY (SELECT {', '.join(map(quoted, [*_columns(view), *more]))} FROM rows_ WHERE {known} "  # noqa: S608 - quoted names
            f"QUALIFY row_number() OVER (PARTITION BY {by} ORDER BY {stays}) = 1 "
            f"ORDER BY {by}) TO '{draft.replace(chr(39), chr(39) * 2)}' (FORMAT parquet, COMPRESSION zstd)"
        )
        data = describe(view, Path(draft))
        final = folder / f"{data.sha256}.parquet"
        Path(draft).replace(final)
    finally:
        Path(draft).unlink(missing_ok=True)
    return final, data


def describe(view: FeatureView, path: Path) -> ViewData:
    """Rows, size, digest and time span of a view's Parquet file."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    span: Any = pc.min_max(pq.read_table(path, columns=[view.at])[view.at]).as_py()
    return ViewData(
        sha256=digest_file(path),
        rows=pq.read_metadata(path).num_rows,
        size_bytes=path.stat().st_size,
        first_at=span["min"],
        last_at=span["max"],
        written_at=utcnow(),
    )


def verify(view: FeatureView, path: Path) -> None:
    """Raises Invalid unless the file is as `write_parquet` writes it: types, no forbidden holes, no doubles."""
    import duckdb
    import pyarrow as pa
    import pyarrow.parquet as pq

    want: Mapping[str, pa.DataType] = (
        {k.name: arrow_type(k.dtype) for k in view.keys}
        | dict.fromkeys(view.times, arrow_type("timestamp"))
        | {f.name: arrow_type(f.dtype) for f in view.stored}
    )
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise Invalid(f"The body is no Parquet file: {error}.", "Use themisto.features.apply(view).") from None
    if not _same_types(dict(zip(schema.names, schema.types, strict=True)), want):
        raise Invalid(f"The rows of '{view.name}' do not have its columns.", "Apply the view together with its source.")
    unique = view.identity
    filled = [*(k.name for k in view.keys), *view.times, *(f.name for f in view.stored if not f.nullable)]
    with duckdb.connect(":memory:") as con:
        rows = con.read_parquet(str(path))  # noqa: F841 - read by the query below
        bad = con.execute(
            f"SELECT count(*) - count(DISTINCT ({', '.join(map(quoted, unique))})), "  # noqa: S608 - quoted names
            + " + ".join(f"count(*) FILTER ({quoted(n)} IS NULL)" for n in filled)
            + " FROM rows"
        ).fetchone()
    if bad is None or any(bad):
        raise Invalid(
            f"The rows of '{view.name}' have doubles, or empty keys or values that may not be empty.",
            "Use themisto.features.apply(view).",
        )


def has_columns(view: FeatureView, path: Path) -> bool:
    """Whether a file has the columns of this version of the view; another version's may not."""
    import pyarrow.parquet as pq

    return set(_columns(view)) <= set(pq.read_schema(path).names)


def is_of(view: FeatureView, path: Path, *more: str) -> bool:
    """Whether a file has the columns of this version of the view, and `more`, and no others."""
    import pyarrow.parquet as pq

    return {*_columns(view), *more} == set(pq.read_schema(path).names)


def _same_types(found: Mapping[str, pa.DataType], want: Mapping[str, pa.DataType]) -> bool:
    """Whether columns are the same in name, order and type; what the items of a list are called does not matter."""
    import pyarrow as pa

    def plain(type_: pa.DataType) -> pa.DataType:
        return pa.list_(type_.value_type) if pa.types.is_list(type_) else type_

    return [(n, plain(t)) for n, t in found.items()] == [(n, plain(t)) for n, t in want.items()]


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
