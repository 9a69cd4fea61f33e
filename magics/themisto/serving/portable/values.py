"""Values: the one place where a column's values become a tensor and come back as what they were.

A column is anything with `name`, `dtype`, `shape`, `logical`, `zone` and `missing` (`themisto.serving.models.Column`).

| pandas                        | tensor | logical    | a missing value is            |
|-------------------------------|--------|------------|-------------------------------|
| float64, float32              | FP64, FP32 |        | NaN                           |
| integers, bool                | INT64, INT32, BOOL | | not there                     |
| integers with missing values  | FP64   | `integer`  | NaN                           |
| booleans with missing values  | FP64   | `boolean`  | NaN                           |
| text, categories of text      | BYTES  |            | the text in `missing`         |
| times, with or without a zone | INT64: microseconds since 1970 UTC | `datetime` | -2**63 |
| dates                         | INT64: the same, of its midnight | `date`   | -2**63 |
| durations                     | INT64: microseconds | `duration` | -2**63              |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd

__all__ = ["NO_TIME", "NUMPY", "ColumnLike", "decode", "encode", "frame_of", "is_missing"]

NUMPY: Mapping[str, Any] = {
    "BOOL": np.dtype("bool"),
    "INT32": np.dtype("int32"),
    "INT64": np.dtype("int64"),
    "FP32": np.dtype("float32"),
    "FP64": np.dtype("float64"),
    "BYTES": np.dtype("object"),
}
NO_TIME = -(2**63)
"""A missing time, date or duration; what numpy calls NaT."""
_MAX_WHOLE = 2**53  # beyond it a double does not hold every integer


class ColumnLike(Protocol):
    """What is read of a column."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def logical(self) -> Any: ...
    @property
    def zone(self) -> str | None: ...
    @property
    def missing(self) -> Any: ...


def encode(values: Any, column: ColumnLike) -> np.ndarray[Any, Any]:
    """The values, one a row, as an array `(rows, *column.shape)`; text as an object array of str.

    Raises ValueError, TypeError or OverflowError for a value that the column cannot hold as it is.
    """
    inner = tuple(column.shape)
    if inner not in ((), (1,)):
        rows = [_exact(np.asarray(row), NUMPY[column.dtype]).reshape(inner) for row in values]
        return np.stack(rows) if rows else np.empty((0, *inner), NUMPY[column.dtype])
    if not isinstance(values, pd.Series):
        array = np.atleast_1d(np.asarray(values))
        if array.size != len(array):
            raise ValueError("a row holds several values")
        values = pd.Series(array.reshape(-1))
    return _flat(values, column).reshape(-1, *inner)


def decode(array: np.ndarray[Any, Any], column: ColumnLike) -> Any:
    """`encode` undone: a Series, or where a row holds several values a list of arrays."""
    if array.ndim > 1 and array.shape[1:] != (1,):
        return list(array)
    flat = array.reshape(-1)
    if column.logical in ("integer", "boolean"):
        kind = "Int64" if column.logical == "integer" else "boolean"
        return pd.Series([pd.NA if v != v else int(v) for v in flat.tolist()], dtype=kind)  # noqa: PLR0124 - NaN
    if column.logical in ("datetime", "date", "duration"):
        return _times(flat.astype(np.int64), column)
    if column.dtype == "BYTES":
        text = [v.decode() if isinstance(v, bytes) else v for v in flat]
        marked = text if column.missing is None else [None if v == column.missing else v for v in text]
        return pd.Series(marked, dtype=object)
    return pd.Series(flat)


def _times(microseconds: np.ndarray[Any, Any], column: ColumnLike) -> Any:
    if column.logical == "duration":
        return pd.Series(microseconds.view("m8[us]"))
    at = pd.Series(microseconds.view("M8[us]"))
    if column.logical == "date":
        return pd.Series([None if pd.isna(v) else v.date() for v in at], dtype=object)
    return at.dt.tz_localize("UTC").dt.tz_convert(column.zone) if column.zone else at


def frame_of(arrays: Mapping[str, np.ndarray[Any, Any]], columns: Any, index: Any = None) -> pd.DataFrame:
    """The arrays as a DataFrame of the columns, in their order; a value of several numbers is an array."""
    found = {column.name: decode(arrays[column.name], column) for column in columns}
    series = {n: v if isinstance(v, pd.Series) else pd.Series(v, dtype=object) for n, v in found.items()}
    frame = pd.DataFrame(series, columns=list(series))
    if index is not None:
        frame.index = index
    return frame


def is_missing(value: Any) -> bool:
    """None, NaN, NaT or NA."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def _flat(values: pd.Series[Any], column: ColumnLike) -> np.ndarray[Any, Any]:
    if column.logical in ("datetime", "date", "duration"):
        return _moments(values, column)
    if column.dtype == "BYTES":
        return np.array([_text(v, column) for v in values.astype(object)], dtype=object)
    if isinstance(values.dtype, pd.CategoricalDtype) or values.dtype == object:
        values = pd.to_numeric(values.astype(object).where(values.notna(), None))
    numbers = pd.to_numeric(values)
    _require_real(numbers.dtype)
    floating = column.dtype in ("FP32", "FP64") or bool(numbers.isna().any())
    array = numbers.to_numpy(dtype=np.float64, na_value=np.nan) if floating else numbers.to_numpy()
    if column.logical == "integer":
        _require_whole(numbers, array)
    return _exact(array, NUMPY[column.dtype])


def _moments(values: pd.Series[Any], column: ColumnLike) -> np.ndarray[Any, Any]:
    if pd.api.types.is_numeric_dtype(values) and values.notna().any():
        raise ValueError(f"numbers are no {column.logical}s")
    if column.logical == "duration":
        spans = pd.to_timedelta(values)
        return _microseconds(spans, "m8[us]")
    at = pd.to_datetime(values, utc=True) if column.zone else pd.to_datetime(values)
    aware = at.dt.tz is not None
    if bool(column.zone) != aware or (
        column.zone and getattr(values.dtype, "kind", "") == "M" and not _has_zone(values)
    ):
        raise ValueError("times with a zone and times without are not the same")
    plain = at.dt.tz_convert("UTC").dt.tz_localize(None) if aware else at
    if column.logical == "date" and not (plain.dropna() == plain.dropna().dt.normalize()).all():
        raise ValueError("a date has no time of day")
    return _microseconds(plain, "M8[us]")


def _has_zone(values: pd.Series[Any]) -> bool:
    return getattr(values.dtype, "tz", None) is not None


def _microseconds(values: pd.Series[Any], unit: str) -> np.ndarray[Any, Any]:
    whole = values.dt.as_unit("us")
    known = values.notna()
    if not (whole[known] == values[known]).all():
        raise ValueError("nanoseconds do not travel; round to microseconds: .dt.floor('us')")
    moments: np.ndarray[Any, Any] = whole.to_numpy(dtype=unit).view(np.int64)
    return moments


def _text(value: Any, column: ColumnLike) -> str:
    if is_missing(value):
        return column.missing if column.missing is not None else ""
    text = value.decode() if isinstance(value, bytes) else str(value)
    if column.missing and text == column.missing:
        raise ValueError(f"{text!r} stands for a missing value")
    return text


def _require_whole(numbers: pd.Series[Any], array: np.ndarray[Any, Any]) -> None:
    known = array[~np.isnan(array)]
    exact = numbers[numbers.notna()]
    if len(known) and (np.abs(known).max() >= _MAX_WHOLE or any(int(v) != v for v in exact.astype(object))):
        raise ValueError("not whole, or 2**53 and over, where a column with missing values is not exact")


def _require_real(dtype: Any) -> None:
    if getattr(dtype, "kind", "") == "c":
        raise ValueError("complex numbers do not travel")  # numpy would drop the imaginary part


def _exact(array: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    _require_real(array.dtype)
    if dtype.kind in "fO":
        return array.astype(dtype)
    with np.errstate(invalid="ignore"):
        cast = array.astype(dtype)
    if not np.array_equal(cast, array):
        raise ValueError("not exactly representable")
    return cast
