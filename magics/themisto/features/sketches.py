"""Sketches: how the values of a view's features are spread, in few numbers and without one single row."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.features.columns import Column
from themisto.features.dtypes import Dtype
from themisto.features.models import FeatureView
from themisto.features.sources import quoted
from themisto.types import Identifier, Model, Sha256

if TYPE_CHECKING:
    import duckdb

__all__ = ["BINS", "FeatureSketch", "Sketch", "sketch"]

BINS = 16
_NUMBERS: frozenset[Dtype] = frozenset({"bool", "int32", "int64", "float32", "float64", "decimal"})


class FeatureSketch(Model):
    """One feature. Of what is personal, only how often it is missing.

    nulls: rows without a value. distinct: about how many values there are.
    least, greatest: of the finite ones; numbers only. bins: how many values are in each of `BINS` spans of one width
    from least to greatest; empty where there is nothing to count.
    """

    name: str
    dtype: Dtype
    personal: bool = False
    nulls: int = 0
    distinct: int | None = None
    least: float | None = None
    greatest: float | None = None
    bins: tuple[int, ...] = ()


class Sketch(Model):
    """The rows of a view that readers see; of windows and transforms what they are computed of."""

    view: Identifier
    version: int
    sha256: Sha256
    rows: int
    features: tuple[FeatureSketch, ...]


def sketch(view: FeatureView, file: Path) -> Sketch:
    """Two passes over `file`, a Parquet file named after its digest. Raises OSError where it is gone."""
    import duckdb

    if not file.is_file():
        raise FileNotFoundError(file)
    with duckdb.connect(":memory:") as con:
        con.read_parquet(str(file)).create_view("rows_")
        rows, *told = _row(con, ["count(*)", *(sql for c in view.stored for sql in _facts(c))])
        facts = [told[i : i + 4] for i in range(0, len(told), 4)]
        spread = [c for c, fact in zip(view.stored, facts, strict=True) if fact[2] is not None]
        limits = {c.name: fact[2:] for c, fact in zip(view.stored, facts, strict=True)}
        counted = _row(con, [_histogram(c, *limits[c.name]) for c in spread]) if spread else ()
    bins = {c.name: tuple(found.get(n, 0) for n in range(BINS)) for c, found in zip(spread, counted, strict=True)}
    features = tuple(
        FeatureSketch(
            name=column.name,
            dtype=column.dtype,
            personal=column.personal,
            nulls=nulls,
            distinct=distinct,
            least=least,
            greatest=greatest,
            bins=bins.get(column.name, ()),
        )
        for column, (nulls, distinct, least, greatest) in zip(view.stored, facts, strict=True)
    )
    return Sketch(view=view.name, version=view.version or 1, sha256=file.stem, rows=rows, features=features)


def _row(con: duckdb.DuckDBPyConnection, expressions: list[str]) -> tuple[Any, ...]:
    found: Any = con.execute(f"SELECT {', '.join(expressions)} FROM rows_").fetchone()  # noqa: S608 - columns are quoted
    return tuple(found)


def _facts(column: Column) -> list[str]:
    """Nulls, distinct values, least and greatest."""
    name = quoted(column.name)
    nulls = f"count(*) - count({name})"
    if column.personal:
        return [nulls, "NULL", "NULL", "NULL"]
    if column.dtype not in _NUMBERS:
        return [nulls, f"approx_count_distinct({name})", "NULL", "NULL"]
    value, holds = _value(column)
    ends = [f"{end}({value}) FILTER ({holds})" for end in ("min", "max")]
    return [nulls, f"approx_count_distinct({name})", *ends]


def _histogram(column: Column, least: float, greatest: float) -> str:
    """As a map of bin to count."""
    value, holds = _value(column)
    width = (greatest / BINS) - (least / BINS)  # the difference itself may be beyond a double
    if not width or not math.isfinite(width):
        return f"histogram(0) FILTER ({holds})"
    place = f"floor({value} / {width!r} - {least / width!r})"
    return f"histogram(CAST(least(greatest({place}, 0), {BINS - 1}) AS INTEGER)) FILTER ({holds})"


def _value(column: Column) -> tuple[str, str]:
    value = f"CAST({quoted(column.name)} AS DOUBLE)"
    return value, f"WHERE isfinite({value})"
