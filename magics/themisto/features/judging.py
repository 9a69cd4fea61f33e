"""Rows on their way in, judged by what their view expects: what fits goes on, the rest is kept apart with the reason.

Single values are judged by pandera, in batches; what needs all rows (doubles of a value, the share of nulls) by
DuckDB, which spills. Patterns are RE2's: a text that takes a backtracking engine for ever is just a text to it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid, MissingSetting
from themisto.features.dtypes import Dtype, from_json
from themisto.features.expectations import Expect, rules_of
from themisto.features.models import Column, FeatureView
from themisto.features.online import encode_key
from themisto.features.records import Quarantine, ViewData
from themisto.features.rowfile import describe, digest_file
from themisto.features.sources import quoted

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

__all__ = ["REASON", "judge", "quarantine_file", "quarantined", "quarantined_keys", "with_messages"]

REASON = "_reason"
"""The column of a quarantine that says why; no feature can be called so, nor like what `judge` adds."""
_BATCH = 100_000


def judge(
    view: FeatureView, paths: Sequence[Path], folder: Path, *, part: bool = False, none: bool = False
) -> ViewData:
    """The rows of `paths` as `folder/<sha256>.parquet`, without those that the view does not expect.

    paths: one file as `write_parquet` makes it; or a view's file and its quarantines, to be judged anew.
    The others are in `quarantine_file(folder, …)`, with a column `REASON`. A single file of which all is as expected
    is moved. part: they are some of the view's rows only, of which no share of nulls is expected. none: it may be that
    no row is left, as of messages that come one by one.
    Raises Invalid where too much is null, or where no row would be left; MissingSetting without pandera.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not view.expect and len(paths) == 1:
        return _keep(view, paths[0], folder)
    with tempfile.TemporaryDirectory(prefix="judging-", dir=folder) as name:
        drafts = Path(name)
        whole = paths[0]
        with _opened(view, paths, drafts) as con:
            if len(paths) > 1:
                whole = drafts / "whole"
                _write(con, "SELECT * FROM rows_", view, whole)
            if not view.expect:
                return _keep(view, whole, folder)
            rows = _one(con, "SELECT count(*) FROM rows_")
            if not part:
                _check_nulls(view, con, rows)
            reasons = _judged(view, con)
            if not reasons:
                return _keep(view, whole, folder)
            counts = Counter(said for each in reasons.values() for said in each)
            if len(reasons) == rows and not none:
                raise Invalid(
                    f"No row of '{view.name}' is as expected: {_counted(counts)}.",
                    "Nothing was changed; mend the rows or what is expected.",
                )
            bad = drafts / "bad"
            _split(con, view, reasons, drafts / "good", bad)
        data = _keep(view, drafts / "good", folder)
        quarantine = Quarantine(sha256=digest_file(bad), rows=len(reasons), reasons=dict(counts.most_common(20)))
        kept = quarantine_file(folder, quarantine)
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        bad.replace(kept)
    return data.model_copy(update={"quarantined": (quarantine,)})


def quarantine_file(folder: Path, quarantine: Quarantine) -> Path:
    """Where quarantined rows are, beside the rows of their view."""
    return folder / "quarantine" / f"{quarantine.sha256}.parquet"


def quarantined_keys(view: FeatureView, path: Path, batch: int = 5000) -> Iterator[list[str]]:
    """The entities in a quarantine, as the online store knows them."""
    import duckdb

    named = " AND ".join([f"{quoted(k.name)} <> ''" for k in view.keys if k.dtype == "string"]) or "true"
    keys = ", ".join(quoted(k.name) for k in view.keys)
    with duckdb.connect(":memory:") as con:
        con.read_parquet(str(path)).create_view("rows_")
        answer = con.execute(f"SELECT DISTINCT {keys} FROM rows_ WHERE {named}")  # noqa: S608 - quoted names
        while found := answer.fetchmany(batch):
            yield [encode_key(view.keys, row) for row in found]


def quarantined(view: FeatureView, paths: Sequence[Path]) -> pd.DataFrame:
    """Quarantined rows as a DataFrame, with a column `REASON`."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not paths:
        return pd.DataFrame(columns=[*_names(view), REASON])
    frame: pd.DataFrame = pa.concat_tables([pq.read_table(p) for p in paths], promote_options="permissive").to_pandas()
    return frame


def with_messages(rows: pd.DataFrame, messages: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Quarantined rows, and below them messages that were no rows, with the columns of both."""
    import pandas as pd

    found = pd.DataFrame(messages, columns=["_topic", "_partition", "_offset", REASON])
    found = found.astype({"_partition": "Int64", "_offset": "Int64"})
    if rows.empty or found.empty:
        return (found if rows.empty else rows).reindex(columns=[*rows.columns, *found.columns[:-1]])
    return pd.concat([rows, found], ignore_index=True)


def _opened(view: FeatureView, paths: Sequence[Path], spill: Path) -> duckdb.DuckDBPyConnection:
    """The rows as `rows_`, numbered by `_n` in their order: key, event time, created time; earlier paths count more."""
    import duckdb

    con = duckdb.connect(":memory:", config={"temp_directory": str(spill)})
    con.execute("SET TimeZone = 'UTC'")
    names = ", ".join(quoted(n) for n in _names(view))
    for i, path in enumerate(paths):
        con.read_parquet(str(path)).create_view(f"part{i}")
    parts = " UNION ALL ".join(f"SELECT {names}, {i} AS _part FROM part{i}" for i in range(len(paths)))  # noqa: S608
    unique = ", ".join(map(quoted, view.identity))
    con.execute(
        f"CREATE TABLE rows_ AS SELECT row_number() OVER (ORDER BY {unique}) AS _n, * FROM ({parts} "  # noqa: S608
        f"QUALIFY row_number() OVER (PARTITION BY {unique} ORDER BY _part) = 1)"
        if len(paths) > 1
        else f"CREATE TABLE rows_ AS SELECT row_number() OVER (ORDER BY {unique}) AS _n, * FROM ({parts})"  # noqa: S608
    )
    return con


def _names(view: FeatureView) -> list[str]:
    return [*(k.name for k in view.keys), *view.times, *(f.name for f in view.stored)]


def _check_nulls(view: FeatureView, con: duckdb.DuckDBPyConnection, rows: int) -> None:
    for expect in view.expect:
        if expect.nulls is None or not rows:
            continue
        empty = _one(con, f"SELECT count(*) FILTER ({_empty(view, expect.column)}) FROM rows_")  # noqa: S608 - quoted names
        if empty > expect.nulls * rows:
            raise Invalid(
                f"'{expect.column}' of '{view.name}' is empty in {100 * empty / rows:.3g} % of {rows} rows, "
                f"expected are at most {100 * expect.nulls:g} %.",
                "Nothing was changed; mend the rows or what is expected.",
            )


def _empty(view: FeatureView, column: str) -> str:
    name = quoted(column)
    return f"{name} IS NULL OR isnan({name})" if _dtype(view, column).startswith("float") else f"{name} IS NULL"


def _judged(view: FeatureView, con: duckdb.DuckDBPyConnection) -> dict[int, list[str]]:
    """By number of a row what is wrong with it."""
    schema, columns = _schema(view)
    if not columns:
        return {}
    chosen = ", ".join(["_n", *(f"{_expression(view, c)} AS {quoted(c)}" for c in columns)])
    reasons: dict[int, list[str]] = {}
    for batch in con.sql(f"SELECT {chosen} FROM rows_ ORDER BY _n").to_arrow_reader(_BATCH):  # noqa: S608 - quoted names
        for number, said in _failures(schema, _frame(batch)):
            reasons.setdefault(number, []).append(said)
    return reasons


_OCCURRENCE = "occurrence of "


def _expression(view: FeatureView, column: str) -> str:
    """A column as pandera sees it: what is no number is empty; of `unique` ones, the how-many-eth of its value."""
    name = column.removeprefix(_OCCURRENCE)
    if column.startswith(_OCCURRENCE):
        order = ", ".join(quoted(n) for n in (*view.times, "_n"))
        nth = f"row_number() OVER (PARTITION BY {quoted(name)} ORDER BY {order})"
        return f"CASE WHEN {_empty(view, name)} THEN 1 ELSE {nth} END"
    return f"CASE WHEN {_empty(view, name)} THEN NULL ELSE {quoted(name)} END"


def _schema(view: FeatureView) -> tuple[Any, list[str]]:
    """pandera's schema of what single values must be like, and the columns that it looks at."""
    try:
        import pandera.pandas as pa
    except ImportError:
        raise MissingSetting(
            f"'{view.name}' has expectations, which need pandera.", "pip install 'themisto[checks]'."
        ) from None
    checks: dict[str, list[Any]] = {}
    for expect in view.expect:
        column = expect.column
        for says, test in _tests(expect, _dtype(view, column)):
            checks.setdefault(column, []).append(pa.Check(test, name=f"{column} is not {says}", ignore_na=True))
        if expect.unique:
            once = pa.Check(lambda nth: nth == 1, name=f"{column} is not unique")
            checks.setdefault(f"{_OCCURRENCE}{column}", []).append(once)
    columns = {name: pa.Column(checks=found, nullable=True) for name, found in checks.items()}
    return pa.DataFrameSchema(columns), list(columns)


def _tests(expect: Expect, dtype: Dtype) -> Iterator[tuple[str, Callable[[pd.Series[Any]], Any]]]:
    """Of each expectation of single values its words, and the test of a Series."""
    words = iter(expect.says)
    if expect.between is not None:
        low, high = expect.bounds(dtype)
        yield next(words), lambda values: _within(values, low, high)
    if expect.among is not None:
        allowed = [from_json(dtype, value) for value in expect.among]
        yield next(words), lambda values: values.isin(allowed)
    if expect.matches is not None:
        pattern = rf"\A(?:{expect.matches})\z"
        yield next(words), lambda values: _like(values, pattern)


def _within(values: pd.Series[Any], low: Any, high: Any) -> Any:
    if low is None:
        return values <= high
    return values >= low if high is None else (values >= low) & (values <= high)


def _like(values: pd.Series[Any], pattern: str) -> Any:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.match_substring_regex(pa.array(values, type=pa.string()), pattern)
    return pd.Series(np.asarray(found), index=values.index)


def _frame(batch: Any) -> pd.DataFrame:
    """A batch with its own types, rows known by their number."""
    import pandas as pd

    frame: pd.DataFrame = batch.to_pandas(types_mapper=pd.ArrowDtype)
    return frame.set_index(frame.pop("_n").astype("int64"))


def _failures(schema: Any, frame: pd.DataFrame) -> Iterator[tuple[int, str]]:
    """Number of a row and what is wrong, in the order of the expectations."""
    import pandas as pd
    from pandera.errors import SchemaErrors

    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        for number, said, case in zip(cases["index"], cases["check"], cases["failure_case"], strict=True):
            if pd.isna(number):  # the test itself did not run
                raise Invalid(f"Not to be told whether {said}: {str(case)[:200]}", "Mend what is expected.") from None
            yield int(number), str(said)


def _split(
    con: duckdb.DuckDBPyConnection, view: FeatureView, reasons: dict[int, list[str]], good: Path, bad: Path
) -> None:
    import pyarrow as pa

    told = pa.array(["; ".join(said) for said in reasons.values()])
    con.register("bad_", pa.table({"_n": pa.array(reasons, pa.int64()), REASON: told}))
    _write(con, "SELECT * FROM rows_ WHERE _n NOT IN (SELECT _n FROM bad_)", view, good)
    _write(con, "SELECT * FROM rows_ JOIN bad_ USING (_n)", view, bad, REASON)


def _write(con: duckdb.DuckDBPyConnection, select: str, view: FeatureView, path: Path, *more: str) -> None:
    names = ", ".join(quoted(n) for n in (*_names(view), *more))
    to = str(path).replace("'", "''")
    con.execute(f"COPY (SELECT {names} FROM ({select}) ORDER BY _n) TO '{to}' (FORMAT parquet, COMPRESSION zstd)")  # noqa: S608


def _keep(view: FeatureView, path: Path, folder: Path) -> ViewData:
    """The file under its digest."""
    data = describe(view, path).model_copy(update={"rules": rules_of(view.expect)})
    final = folder / f"{data.sha256}.parquet"
    if not final.exists():
        path.replace(final)
    return data


def _dtype(view: FeatureView, column: str) -> Dtype:
    known: Sequence[Column] = (*view.keys, *view.stored)
    return next(c.dtype for c in known if c.name == column)


def _counted(reasons: Counter[str]) -> str:
    return "; ".join(f"{said} ({count})" for said, count in reasons.most_common(3))


def _one(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    ((count,),) = con.execute(sql).fetchall()
    return int(count)
