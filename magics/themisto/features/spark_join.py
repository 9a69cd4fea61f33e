"""The point-in-time join by Spark: one shuffle an entity, however many views are about it.

The spine's rows and the events of all views with the same keys are laid into one line a key, ordered by time; each
view's newest event is carried forward along it, and dropped afterwards where it is older than the view's ttl. One
shuffle brings the line together, for all these views at once. The last one brings the answers back into the spine's
order: by blocks of its rows, which are known, so that nothing has to be sampled and computed twice for it.

Rows without key or time find nothing, and do not go through it. Nor do events that no row can find: those after the
last asked time or older than the ttl at the first, and, where the spine is small, those of other keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from themisto.errors import Failed
from themisto.features.dtypes import arrow_type
from themisto.features.engine import Bounds
from themisto.features.models import FeatureView
from themisto.features.records import ServiceColumn, ServiceSpec
from themisto.features.spark import SparkJob, session

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame, SparkSession

__all__ = ["Asked", "by_spark", "planned", "written_asked"]

_ROWS = 200_000
_PARTS = 1000
_FEW_ROWS = 200_000  # the keys of so many fit into each executor


class Asked(NamedTuple):
    """The spine's numbers, times and keys in a file: how many rows, from when to when, and which columns have holes."""

    path: Path
    rows: int
    first_us: int
    last_us: int
    holes: frozenset[str]


def written_asked(tables: Iterator[pa.Table], path: Path) -> Asked:
    """`tables` of number `n_`, time `at_` (timestamp[us, UTC]) and keys `k0`… as a file for Spark to read."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows, holes, writer = 0, set(), None
    firsts, lasts = [], []
    try:
        for table in tables:
            moments = table["at_"].cast(pa.int64())
            table = table.set_column(table.column_names.index("at_"), "at_", moments)  # noqa: PLW2901 - in Spark's way
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            rows += len(table)
            holes |= {name for name in table.column_names if table[name].null_count}
            if moments.null_count < len(moments):
                firsts.append(pc.min(moments).as_py())
                lasts.append(pc.max(moments).as_py())
    finally:
        if writer is not None:
            writer.close()
    return Asked(path, rows, min(firsts, default=0), max(lasts, default=-1), frozenset(holes))


def by_spark(
    asked: Asked,
    spec: ServiceSpec,
    files: Mapping[str, Path],
    views: Mapping[str, FeatureView],
    *,
    known: bool,
    bounds: Bounds,
    folder: Path,
    job: SparkJob,
) -> pa.RecordBatchReader:
    """The columns of `spec` for each asked row, in order; they wait in `folder`, which Spark's executors must see."""
    import pyarrow as pa

    assert bounds.engine is not None
    spark = session(bounds.engine, bounds)
    answers = folder / "answers"
    with job.running(spark):
        planned(spark, asked, spec, files, views, known=known).write.partitionBy("part_").parquet(_written(answers))
    schema = pa.schema([(c.name, arrow_type(c.dtype)) for c in spec.columns])
    return pa.RecordBatchReader.from_batches(schema, _read(answers, asked.rows, schema))


def _read(answers: Path, rows: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The parts one after the other, in the order of their numbers. Raises Failed where a row is not there."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    begun = 0
    for part in sorted(answers.glob("part_=*"), key=lambda p: int(p.name.partition("=")[2])):
        for path in sorted(part.glob("*.parquet")):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(_ROWS):
                    numbers = np.arange(begun, begun + len(batch))
                    if not np.array_equal(batch["n_"].to_numpy(), numbers):
                        raise Failed("Spark lost rows, or their order.", "Run it again; it is no answer.")
                    columns = [batch[f"c{i}"].cast(field.type) for i, field in enumerate(schema)]
                    yield pa.RecordBatch.from_arrays(columns, schema=schema)
                    begun += len(batch)
    if begun != rows:
        raise Failed(f"Spark gave {begun} of {rows} rows.", "Run it again; it is no answer.")


def planned(
    spark: SparkSession,
    asked: Asked,
    spec: ServiceSpec,
    files: Mapping[str, Path],
    views: Mapping[str, FeatureView],
    *,
    known: bool,
) -> DataFrame:
    """Number, block and columns `c0`… of the answer, in the spine's order within each block."""
    from pyspark.sql import functions as fn

    size = max(_ROWS, math.ceil(asked.rows / _PARTS))
    spine = spark.read.parquet(_uri(asked.path))
    place = {k.name: f"k{i}" for i, k in enumerate(spec.keys)}
    by_keys: dict[tuple[str, ...], list[str]] = {}
    for name in spec.views:
        by_keys.setdefault(tuple(sorted(place[k] for k in spec.view_keys[name])), []).append(name)
    found = []
    for keys, names in by_keys.items():
        line = _Line(spark, asked, spec, keys, {n: views[n] for n in names}, known=known)
        found.append(line.answered(spine, files))
        if len(found) == 1 and asked.holes & {*keys, "at_"}:
            found.append(spine.where(~_complete(keys)).select("n_"))
    whole = reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), found)
    blocks = whole.withColumn("part_", fn.floor(fn.col("n_") / size).cast("int")).repartition("part_")
    columns = [f"c{i}" for i in range(len(spec.columns))]
    if len(by_keys) > 1:
        blocks = blocks.groupBy("part_", "n_").agg(*(fn.first(c, ignorenulls=True).alias(c) for c in columns))
    return blocks.sortWithinPartitions("part_", "n_").select("n_", "part_", *columns)


class _Line:
    """The views of one entity: a row for each event and each asked time, keys and time first."""

    def __init__(
        self,
        spark: SparkSession,
        asked: Asked,
        spec: ServiceSpec,
        keys: Sequence[str],
        views: Mapping[str, FeatureView],
        *,
        known: bool,
    ) -> None:
        self._spark, self._asked, self._spec = spark, asked, spec
        self._keys, self._views = keys, views
        self._joined = {name for name, view in views.items() if known and view.created is not None}

    def answered(self, spine: DataFrame, files: Mapping[str, Path]) -> DataFrame:
        """Number and columns of each asked row that has these keys and a time."""
        from pyspark.sql import Window
        from pyspark.sql import functions as fn

        rows = spine.where(_complete(self._keys)) if self._asked.holes & {*self._keys, "at_"} else spine
        rows = rows.select(*self._keys, fn.col("at_").alias("t_"), fn.lit(1).alias("kind_"), "n_")
        line = reduce(
            lambda a, b: a.unionByName(b, allowMissingColumns=True),
            [rows, *(self._events(name, files[name], rows) for name in self._views)],
        )
        window = Window.partitionBy(*self._keys).orderBy("t_", "kind_", *(["tie_"] if "tie_" in line.columns else []))
        window = window.rowsBetween(Window.unboundedPreceding, Window.currentRow)
        newest = [self._newest(name).over(window).alias(f"v_{name}") for name in self._views]
        places = {c.name: i for i, c in enumerate(self._spec.columns)}
        columns = [
            self._value(name, c, number).alias(f"c{places[c.name]}")
            for name in self._views
            for number, c in enumerate(self._spec.of(name))
        ]
        return line.select("n_", "t_", *newest).where(fn.col("n_").isNotNull()).select("n_", *columns)

    def _events(self, name: str, file: Path, asked: DataFrame) -> DataFrame:
        """Those that one of the asked rows may find; `e_…` is the event, and `t_` the time from which it counts."""
        from pyspark.sql import functions as fn

        view, ttl_us = self._views[name], self._ttl_us(name)
        rows = self._spark.read.parquet(_uri(file))
        at = fn.unix_micros(_column(view.at))
        made = [fn.unix_micros(_column(view.created))] if view.created else []
        begins = fn.greatest(at, *made) if name in self._joined else at
        for moment in view.times if name in self._joined else (view.at,):
            rows = rows.where(_column(moment) <= _moment(self._asked.last_us))
        if ttl_us is not None:
            rows = rows.where(_column(view.at) >= _moment(self._asked.first_us - ttl_us))
        ranks = [at.alias("at_"), *(m.alias("made_") for m in made)] if name in self._joined else [at.alias("at_")]
        values = [_column(c.feature).alias(f"f{i}") for i, c in enumerate(self._spec.of(name))]
        place = {k.name: f"k{i}" for i, k in enumerate(self._spec.keys)}
        types = dict(asked.dtypes)
        keys = [
            _column(k).cast(types[place[k]]).alias(place[k])
            for k in sorted(self._spec.view_keys[name], key=lambda k: place[k])
        ]
        ties = [m.alias("tie_") for m in made]
        found = rows.select(
            *keys, begins.alias("t_"), fn.lit(0).alias("kind_"), *ties, fn.struct(*ranks, *values).alias(f"e_{name}")
        ).where(reduce(lambda a, b: a & b, [fn.col(k).isNotNull() for k in self._keys]))
        if self._asked.rows <= _FEW_ROWS:
            found = found.join(fn.broadcast(asked.select(*self._keys)), list(self._keys), "left_semi")
        return found

    def _newest(self, name: str) -> Column:
        """Of the events so far the last; as they were known, the one of the latest time, which may have come before."""
        from pyspark.sql import functions as fn

        event = f"e_{name}"
        if name in self._joined:
            return fn.max_by(event, fn.struct(f"{event}.at_", f"{event}.made_"))
        return fn.last(event, ignorenulls=True)

    def _value(self, name: str, column: ServiceColumn, number: int) -> Column:
        from pyspark.sql import functions as fn

        ttl_us, value = self._ttl_us(name), fn.col(f"v_{name}.f{number}")
        return value if ttl_us is None else fn.when(fn.col("t_") - fn.col(f"v_{name}.at_") <= ttl_us, value)

    def _ttl_us(self, name: str) -> int | None:
        ttl_s = self._spec.ttl_s[name]
        return None if ttl_s is None else round(ttl_s * 1_000_000)


def _complete(keys: Sequence[str]) -> Column:
    from pyspark.sql import functions as fn

    return reduce(lambda a, b: a & b, [fn.col(name).isNotNull() for name in (*keys, "at_")])


def _moment(us: int) -> Column:
    from pyspark.sql import functions as fn

    return fn.timestamp_micros(fn.lit(max(us, -(2**63))))


def _column(name: str) -> Column:
    from pyspark.sql import functions as fn

    return fn.col("`" + name.replace("`", "``") + "`")


def _uri(path: Path) -> str:
    """A local path as Spark reads it, where some characters stand for many files."""
    return "".join(f"\\{c}" if c in "\\*?[]{}," else c for c in _written(path))


def _written(path: Path) -> str:
    """A local path as Spark writes to it."""
    return f"file://{path.resolve()}"
