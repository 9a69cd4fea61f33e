"""The Parquet file of a view's rows: sorted by key and time, one row of each identity, named by its digest."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid
from themisto.features.columns import quoted
from themisto.features.dtypes import arrow_type
from themisto.features.events import check_events
from themisto.features.models import FeatureView
from themisto.features.records import ViewData
from themisto.features.sources import as_table, conform, times
from themisto.types import utcnow

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = [
    "MAX_KEY_BYTES",
    "MAX_TEXT_BYTES",
    "check_left_out",
    "check_lengths",
    "check_whole",
    "describe",
    "digest_file",
    "has_columns",
    "is_of",
    "key_sql",
    "merge",
    "sweep",
    "verify",
    "write_parquet",
    "written",
]

_ABANDONED_S = 86400.0
_DOUBLE = "another row has its key and time"
MAX_KEY_BYTES = 4096
"""Text in one key column: Cassandra takes 64 KiB for all of them."""
MAX_TEXT_BYTES = 1024 * 1024
"""Text of one feature."""


def write_parquet(view: FeatureView, source: Any, folder: Path) -> tuple[Path, ViewData]:
    """The view's rows as `folder/<sha256>.parquet`: only its columns, sorted by key, event time and created time.

    Rows without key or time are left out: they are of nobody, and nobody could erase them. Of rows with the same key
    and times the last one stays, of equal events of a windowed view the first. What did not stay is counted.
    """
    import duckdb
    import numpy as np
    import pyarrow as pa

    names = _columns(view)
    table = as_table(source, names)
    arrays = conform(table, view.keys) | {n: times(table, n) for n in view.times} | conform(table, view.stored)
    clean = pa.table({n: arrays[n] for n in names})
    check_lengths(view, clean)
    left_out = _lacking(view, clean)
    with duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("rows_", clean.append_column("n_", pa.array(np.arange(len(clean)))))
        if view.windows is not None:
            check_events(con, view)
        path, data = written(con, view, folder)
    if doubles := len(clean) - sum(left_out.values()) - data.rows:
        left_out[_DOUBLE] = doubles
    return path, data.model_copy(update={"left_out": left_out})


def _filled(view: FeatureView) -> list[str]:
    """The columns without which a row is none."""
    return [*(k.name for k in view.keys), *view.times]


def _lacking(view: FeatureView, rows: pa.Table) -> dict[str, int]:
    """How many rows have no key or time, by the first of these that they lack."""
    import pyarrow.compute as pc

    found, left = {}, rows.select(_filled(view))
    for name in left.column_names:
        if missing := left[name].null_count:
            found[_reason(name)] = missing
            left = left.filter(pc.is_valid(left[name]))
    return found


def _reason(name: str) -> str:
    return f"{name} is empty"


def check_left_out(view: FeatureView, said: Mapping[str, int]) -> None:
    """Raises Invalid where rows are said to be left out for another reason than `write_parquet` has."""
    known = [*(_reason(name) for name in _filled(view)), _DOUBLE]
    for reason in said:
        if reason not in known:
            raise Invalid(
                f"No row of '{view.name}' is left out because of '{reason[:100]}'.", f"There are {', '.join(known)}."
            )


def check_whole(view: FeatureView, source: Any) -> None:
    """Raises Invalid for events without key or time: of a source they are left out, of few rows one wants them all."""
    names = _filled(view)
    table = as_table(source, names)
    for name in names:
        missing = table[name].null_count
        if missing:
            raise Invalid(
                f"{missing:,} of {len(table):,} rows have no '{name}'; none was pushed.",
                "Drop them, or say of whom and when they are.",
            )


def check_lengths(view: FeatureView, rows: pa.Table) -> None:
    """Raises Invalid for text that is longer than the stores take."""
    import pyarrow.compute as pc

    limits = [(k, MAX_KEY_BYTES) for k in view.keys] + [(f, MAX_TEXT_BYTES) for f in view.stored]
    for column, most in limits:
        if column.dtype == "string":
            longest = pc.max(pc.binary_length(rows[column.name])).as_py() or 0
            if longest > most:
                raise Invalid(
                    f"'{view.name}' has a '{column.name}' of {longest:,} bytes; it may have {most:,}.",
                    "Shorten it, or keep the text elsewhere and its name or digest here.",
                )


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
    return [*_filled(view), *(f.name for f in view.stored)]


def written(con: duckdb.DuckDBPyConnection, view: FeatureView, folder: Path, *more: str) -> tuple[Path, ViewData]:
    """The table `rows_` of a connection as `folder/<sha256>.parquet`; `n_` says which of two equal rows came later.

    more: columns beside those of the view.
    """
    known = " AND ".join(f"{quoted(n)} IS NOT NULL" for n in _filled(view))
    by = ", ".join(map(quoted, view.identity))
    stays = "n_ DESC" if view.windows is None else ", ".join([*map(quoted, view.times[1:]), "n_"])
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
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


def sweep(folder: Path) -> None:
    """Remove drafts that a killed process left: those which nobody has touched for a day."""
    oldest = time.time() - _ABANDONED_S
    for draft in (*folder.glob("*.draft"), *folder.glob("drafts-*")):
        with suppress(OSError):  # gone meanwhile
            if draft.stat().st_mtime < oldest:
                shutil.rmtree(draft) if draft.is_dir() else draft.unlink()


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
    texts = [c.name for c in (*view.keys, *view.stored) if c.dtype == "string"]
    if texts:
        check_lengths(view, pq.read_table(path, columns=texts))
    unique = view.identity
    filled = [*_filled(view), *(f.name for f in view.stored if not f.nullable)]
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


def key_sql(view: FeatureView) -> str:
    """`online.encode_key` of a view's rows, in SQL."""
    texts = [f"CAST({quoted(k.name)} AS VARCHAR)" for k in view.keys]
    texts = [
        f"CASE WHEN {quoted(k.name)} THEN '1' ELSE '0' END" if k.dtype == "bool" else text
        for k, text in zip(view.keys, texts, strict=True)
    ]
    return texts[0] if len(texts) == 1 else " || ".join(f"length({text}) || ':' || {text}" for text in texts)
