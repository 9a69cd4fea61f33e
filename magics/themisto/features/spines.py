"""A spine: the rows that features are joined to, in whatever they came, and the result in the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid
from themisto.features.sources import as_table, check_once, schema_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Spine", "is_path", "shares", "spooled", "written_to"]

_ROWS = 200_000


def is_path(given: Any) -> bool:
    """Whether it is a Parquet file's path; another text is SQL."""
    return isinstance(given, Path) or (isinstance(given, str) and given.strip().lower().endswith(".parquet"))


class Spine:
    """Rows with keys and time: DataFrame of pandas or polars, Arrow table, batch or reader, or a Parquet file.

    A reader is read once, into a file in `scratch`. Raises Invalid or NotFound for what is none.
    """

    def __init__(self, given: Any, scratch: Path) -> None:
        import pyarrow as pa

        self.of_polars = type(given).__module__.partition(".")[0] == "polars"
        self.of_pandas = hasattr(given, "iloc")
        if isinstance(given, pa.RecordBatchReader):
            given = spooled(given, scratch / "spine.parquet")
        elif isinstance(given, str) and is_path(given):
            given = Path(given.strip())
        elif isinstance(given, pa.RecordBatch):
            given = pa.Table.from_batches([given])
        elif type(given).__name__ == "LazyFrame":
            given = given.collect()
        self.given = given
        self.in_file = isinstance(given, Path)
        if self.of_pandas:
            check_once(given.columns)
        self.names = list(map(str, given.columns)) if self.of_pandas else schema_of(given).names

    def parts(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows of some columns, in their order; a file's by and by. At least one part, which may have no rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self.in_file:
            yield as_table(self.given, columns)
            return
        with pq.ParquetFile(self.given) as file:
            chosen = self.names if columns is None else list(columns)
            if file.metadata.num_rows == 0:
                yield file.schema_arrow.empty_table().select(chosen)
            for batch in file.iter_batches(_ROWS, columns=chosen):
                yield pa.Table.from_batches([batch]).select(chosen)

    def joined(self, features: Any) -> Any:
        """The spine as it came, with the features' columns behind its own."""
        import pandas as pd
        import pyarrow as pa

        if self.of_pandas:
            features.index = self.given.index
            return pd.concat([self.given, features], axis=1)
        if self.of_polars:
            import polars as pl

            return pl.concat([self.given, pl.from_arrow(features)], how="horizontal")
        whole: Any = pa.concat_tables(self.parts()) if self.in_file else as_table(self.given)
        for name in features.column_names:
            whole = whole.append_column(features.schema.field(name), features[name])
        return whole


def spooled(rows: Any, path: Path) -> Path:
    """An Arrow reader's rows, or a DuckDB relation's, as a Parquet file."""
    import pyarrow.parquet as pq

    reader = rows.to_arrow_reader(_ROWS) if hasattr(rows, "to_arrow_reader") else rows
    with pq.ParquetWriter(path, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
    return path


def written_to(to: Path, parts: Iterator[pa.Table]) -> Path:
    """Tables of one schema as one Parquet file, all of it or none. Raises Invalid where it cannot be."""
    import pyarrow.parquet as pq

    if not to.parent.is_dir():
        raise Invalid(f"There is no folder '{to.parent}'.", "Make it first.")
    draft = to.with_name(f".{to.name}.draft")
    try:
        first = next(parts)
        with pq.ParquetWriter(draft, first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for part in parts:
                writer.write_table(part)
        return draft.replace(to)
    finally:
        draft.unlink(missing_ok=True)


def shares(rows: Any, names: Sequence[str]) -> tuple[int, int, Mapping[str, float]]:
    """Of joined rows: how many, how many columns, and of each feature the share of rows that have it."""
    import pyarrow.parquet as pq

    if isinstance(rows, Path):
        with pq.ParquetFile(rows) as file:
            total, columns = file.metadata.num_rows, len(file.schema_arrow.names)
            missing = dict.fromkeys(names, 0)
            for batch in file.iter_batches(_ROWS, columns=list(names)):
                for name in names:
                    missing[name] += batch[name].null_count
    else:
        total, columns = len(rows), len(rows.columns)
        missing = {n: _missing(rows[n]) for n in names}
    return total, columns, {n: 1 - missing[n] / total if total else 0.0 for n in names}


def _missing(column: Any) -> int:
    if hasattr(column, "isna"):
        return int(column.isna().sum())
    counted = column.null_count
    return int(counted() if callable(counted) else counted)
