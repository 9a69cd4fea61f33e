"""A source that is SQL: one SELECT over the tables it was given and over rows of registered views."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid, NotFound
from themisto.features.engine import Bounds
from themisto.features.sql import answer

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Select"]


class Select:
    """`features.select("SELECT …", trips="trips.parquet")`: run when its rows are needed, each time anew.

    It sees DataFrames, Arrow tables and Parquet files by the names they are given, and registered views by theirs. It
    reads no other file, writes nothing, loads nothing, and ends within the budget of SQL.
    """

    def __init__(
        self, sql: str, tables: Mapping[str, Any], rows_of: Callable[[str], Any | None], bounds: Bounds
    ) -> None:
        self.sql = sql
        self._tables = {name: _opened(name, given) for name, given in tables.items()}
        self._rows_of = rows_of
        self._bounds = bounds

    def __repr__(self) -> str:
        return f"Select({self.sql!r})"

    def table(self) -> pa.Table:
        """Its rows. Raises as `sql.query` does."""
        rows: pa.Table = self._answer(lambda found: found.to_arrow_table())
        return rows

    def schema(self) -> pa.Schema:
        """Names and types of its columns; no row is computed."""
        empty: pa.Table = self._answer(lambda found: found.limit(0).to_arrow_table())
        return empty.schema

    def _answer(self, taken: Callable[[Any], Any]) -> Any:
        return answer(self.sql, self._tables, self._named, taken, bounds=self._bounds, what="The SQL of the source")

    def _named(self, name: str) -> Any | None:
        return self._tables.get(name) if name in self._tables else self._rows_of(name)


def _opened(name: str, given: Any) -> Any:
    """A Parquet file as what DuckDB reads without access to files."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    if not isinstance(given, str | Path):
        return given
    if not Path(given).is_file():
        raise NotFound(f"There is no file '{given}' for the table '{name}'.", "Give the path of a Parquet file.")
    try:
        return ds.dataset(given, format="parquet")
    except pa.ArrowException as error:
        raise Invalid(
            f"'{Path(given).name}' cannot be read as Parquet: {error}.", "Write it with to_parquet."
        ) from None
