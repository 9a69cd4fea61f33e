"""A source of rows: whatever a person brings as a table, its types, times and keys made uniform."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid, NotFound
from themisto.features.columns import quoted
from themisto.features.dtypes import Dtype, arrow_type, dtype_of, is_time
from themisto.features.models import Column
from themisto.features.selected import Select

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["as_table", "check_once", "conform", "dtypes_of", "quoted", "schema_of", "times"]

_TO_TIME = "Convert it: df['{0}'] = pd.to_datetime(df['{0}'])."


def as_table(source: Any, columns: Sequence[str] | None = None) -> pa.Table:
    """DataFrame (pandas, polars), Arrow table, Parquet file or `Select` as an Arrow table of `columns` (all)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(source, Select):
        source = source.table()
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
    check_once(source.columns)
    _check_there(columns, source.columns)
    frame = source[list(columns)] if columns is not None else source
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError) as error:
        raise Invalid(f"The DataFrame cannot be typed: {error}.", "Give each column one type.") from None


def check_once(there: Sequence[Any]) -> None:
    """Raises Invalid where two columns have one name."""
    twice = sorted({str(name) for name in there if list(there).count(name) > 1})
    if twice:
        raise Invalid(f"The rows have more than one column {', '.join(twice)}.", "Drop or rename one of each.")


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

    if isinstance(source, Select):
        return source.schema()
    if isinstance(source, str | Path) and Path(source).is_file():
        try:
            return pq.read_schema(source)
        except pa.ArrowException as error:
            raise _no_parquet(Path(source), error) from None
    return as_table(source).schema


def _no_parquet(path: Path, error: Exception) -> Invalid:
    return Invalid(f"'{path.name}' cannot be read as Parquet: {error}.", "Write it with to_parquet.")


def _identifier(name: str, view: str) -> None:
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
            type_ = str(table[column.name].type).replace("large_", "")  # how Arrow lays it out is nobody's concern
            raise Invalid(
                f"The column '{column.name}' is {type_}, not {column.dtype}.",
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
    import pyarrow.compute as pc

    if at not in table.column_names:
        raise _no_column(at, table)
    array = table[at]
    if not is_time(array.type):
        raise Invalid(f"'{at}' is {array.type}, not a time.", _TO_TIME.format(at))
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("us"))
    if array.type.unit == "ns":
        array = pc.floor_temporal(array, unit="microsecond")  # a cast goes towards 1970: up, before it
    return array.cast(pa.timestamp("us", "UTC"), safe=False)
