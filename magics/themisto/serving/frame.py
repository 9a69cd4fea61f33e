"""DataFrames as tensors: which columns a frame has, and its values as their tensors and back."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from themisto.errors import Invalid
from themisto.serving.models import Column, Dtype
from themisto.serving.portable.values import NO_TIME, NUMPY, decode, encode
from themisto.types import Json

__all__ = [
    "NUMPY",
    "Tensors",
    "columns_of",
    "from_json",
    "model_columns",
    "numeric",
    "pick",
    "tensors",
    "to_frame",
    "to_json",
]

Tensors = Mapping[str, np.ndarray[Any, Any]]
"""Name to array of shape `(rows, *column.shape)`; BYTES as an object array of str."""

_NAME = re.compile(r'^[^"\\\x00-\x1f]{1,200}\Z')
_INT32 = ("int8", "int16", "int32", "uint8", "uint16")
_MISSING_TEXT = ("", "\u2400")  # the second where the column holds empty texts that are not missing
_REMEDY_TIME = "Deploy on numbers made from it, e.g. df['hour'] = df['{0}'].dt.hour, and drop '{0}'."


def columns_of(frame: pd.DataFrame) -> tuple[Column, ...]:
    """The signature of a DataFrame, one Column of shape `(1,)` for each of its columns.

    How each type travels is told in `themisto.serving.portable.values`. Raises Invalid for mixed and
    nested values, and for names that are no names.
    """
    names = [str(name) for name in frame.columns]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise Invalid(f"The column '{twice[0]}' is there twice.", "Give each column a name of its own.")
    for name in names:
        if not _NAME.match(name):
            raise Invalid(
                f"{name[:60]!r} cannot be the name of a model's column.",
                "Rename it: 1 to 200 characters, without quotes, backslashes and control characters.",
            )
    return tuple(_column(name, frame.iloc[:, i]) for i, name in enumerate(names))


def model_columns(frame: pd.DataFrame) -> tuple[Column, ...]:
    """`columns_of` for what computes with numbers and text alone. Raises Invalid for times too."""
    found = columns_of(frame)
    for column in found:
        if column.logical in ("datetime", "date", "duration"):
            raise Invalid(
                f"The column '{column.name}' holds times, which models do not take.", _REMEDY_TIME.format(column.name)
            )
    return found


def _column(name: str, values: pd.Series[Any]) -> Column:
    dtype: Any = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        categories = _column(name, pd.Series(dtype.categories))
        return _text_column(name, values) if categories.dtype == "BYTES" else _column(name, values.astype(object))
    kind = getattr(dtype, "kind", "O")
    if kind in "biuf":
        return _number(name, str(dtype).lower(), missing=bool(values.isna().any()))
    if kind in "mM":
        zone = getattr(dtype, "tz", None)
        return _time(name, "datetime" if kind == "M" else "duration", zone=None if zone is None else str(zone))
    return _objects(name, values)


def _objects(name: str, values: pd.Series[Any]) -> Column:
    """The column of values whose dtype says nothing: they are looked at."""
    inferred = pd.api.types.infer_dtype(values, skipna=True)
    if inferred in ("string", "empty"):
        return _text_column(name, values)
    if inferred in ("integer", "floating", "mixed-integer-float", "boolean"):
        kinds = {"integer": "int64", "boolean": "bool"}
        return _number(name, kinds.get(inferred, "float64"), missing=bool(values.isna().any()))
    if inferred == "date":
        return _time(name, "date")
    if inferred.startswith(("datetime", "timedelta")):
        return _column(name, _times(name, values))
    raise Invalid(
        f"The column '{name}' holds {inferred} values; a column is numbers, booleans, strings or times.",
        f"Make it one type, e.g. df['{name}'] = df['{name}'].astype(str).",
    )


def _number(name: str, dtype: str, *, missing: bool) -> Column:
    """From pandas' or numpy's name: `int64`, `Int64`, `float32`, `boolean`."""
    if dtype.startswith(("float", "double")):
        return Column(name=name, dtype="FP32" if "32" in dtype or dtype.startswith("float[") else "FP64")
    if missing:
        return Column(name=name, dtype="FP64", logical="boolean" if dtype.startswith("bool") else "integer")
    if dtype.startswith("bool"):
        return Column(name=name, dtype="BOOL")
    return Column(name=name, dtype="INT32" if dtype in _INT32 else "INT64")


def _time(name: str, logical: Any, zone: str | None = None) -> Column:
    return Column(name=name, dtype="INT64", logical=logical, zone=zone, missing=NO_TIME)


def _times(name: str, values: pd.Series[Any]) -> pd.Series[Any]:
    """Times that pandas holds as objects, as times. Raises Invalid where they have several zones."""
    plain = values.infer_objects()
    if getattr(plain.dtype, "kind", "O") not in "mM":
        raise Invalid(
            f"The column '{name}' holds times of several zones.",
            f"Give them one: df['{name}'] = pd.to_datetime(df['{name}'], utc=True).",
        )
    return plain


def _text_column(name: str, values: pd.Series[Any]) -> Column:
    """Declares what stands for a missing text, where one is missing: an empty one, or `␀` beside empty ones."""
    if not values.isna().any():
        return Column(name=name, dtype="BYTES")
    used = set(values.dropna().astype(str))
    free = [text for text in _MISSING_TEXT if text not in used]
    if not free:
        raise Invalid(
            f"The column '{name}' has missing values, empty texts and '{_MISSING_TEXT[1]}' too.",
            f"Name what is missing: df['{name}'] = df['{name}'].fillna('unknown').",
        )
    return Column(name=name, dtype="BYTES", missing=free[0])


def numeric(column: Column) -> bool:
    """Whether it can be a number in a matrix: anything but text."""
    return column.dtype != "BYTES"


def pick(frame: pd.DataFrame, names: Sequence[str], *, whose: str) -> pd.DataFrame:
    """The columns `names` of `frame`, in that order; others are left out.

    Raises Invalid naming what is missing and the nearest column that is there.
    """
    have = [str(c) for c in frame.columns]
    missing = [n for n in names if n not in have]
    if missing:
        near = {n: difflib.get_close_matches(n, [h for h in have if h not in names], n=1) for n in missing}
        hints = [f"'{n}' (there is '{near[n][0]}')" if near[n] else f"'{n}'" for n in missing[:5]]
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise Invalid(
            f"The columns do not fit {whose}: {', '.join(hints)}{more} missing.",
            f"It takes: {', '.join(names[:20])}{', …' if len(names) > 20 else ''}.",
        )
    picked = frame.iloc[:, [have.index(n) for n in names]]
    picked.columns = pd.Index(list(names))
    return picked


def tensors(frame: pd.DataFrame, columns: Sequence[Column]) -> dict[str, np.ndarray[Any, Any]]:
    """The columns as arrays of shape `(rows, *column.shape)`.

    Raises Invalid where a column cannot be what the signature says (text for a number, a missing
    value or a fraction for an integer).
    """
    return {column.name: _tensor(frame[column.name], column) for column in columns}


def _tensor(values: pd.Series[Any], column: Column) -> np.ndarray[Any, Any]:
    try:
        return encode(values, column)
    except (TypeError, ValueError, OverflowError) as error:
        takes = column.logical or column.dtype
        raise Invalid(
            f"The column '{column.name}' is {values.dtype}; the model takes {takes}: {str(error)[:200]}.",
            _CONVERT.get(column.logical or "", "Convert it: df['{0}'].astype('{1}').").format(
                column.name, NUMPY[column.dtype]
            ),
        ) from error


_CONVERT = {
    "datetime": "Convert it: pd.to_datetime(df['{0}']), with utc=True where the model takes a zone.",
    "date": "Convert it: pd.to_datetime(df['{0}']).dt.date.",
    "duration": "Convert it: pd.to_timedelta(df['{0}']).",
    "integer": "Convert it: df['{0}'].astype('Int64').",
    "boolean": "Convert it: df['{0}'].astype('boolean').",
}


def to_json(arrays: Tensors) -> dict[str, list[Json]]:
    """Columns as JSON lists, row by row: a scalar for shape `(1,)`, a list otherwise; NaN is null."""
    return {name: [_json(row) for row in array] for name, array in arrays.items()}


def _json(row: np.ndarray[Any, Any]) -> Json:
    values: list[Json] = [_scalar(v) for v in row.reshape(-1).tolist()]
    return values[0] if row.shape == (1,) else values


def _scalar(value: Any) -> Json:
    if isinstance(value, float) and math.isnan(value):
        return None
    return value.decode() if isinstance(value, bytes) else value


def from_json(values: Mapping[str, Sequence[Json]], columns: Sequence[Column]) -> dict[str, np.ndarray[Any, Any]]:
    """`to_json` undone: null becomes NaN in FP columns and what stands for a missing text in BYTES."""
    found = {}
    for column in columns:
        flat: list[Any] = []
        for row in values[column.name]:
            flat.extend(row if isinstance(row, list) else [row])
        missing: Any = (column.missing or "") if column.dtype == "BYTES" else math.nan
        filled = [missing if v is None else v for v in flat]
        found[column.name] = np.array(filled, dtype=NUMPY[column.dtype]).reshape(-1, *column.shape)
    return found


def to_frame(arrays: Tensors, index: Any = None, columns: Sequence[Column] = ()) -> pd.DataFrame:
    """Tensors as a DataFrame, a column each; a value of shape `(k,)`, such as probabilities, is a list of k.

    columns: the signature's, for what the values are (times, integers with missing ones); a tensor
        that is not among them is what its array says.
    """
    stated = {column.name: column for column in columns}
    frame: dict[str, Any] = {}
    for name, array in arrays.items():
        if array.ndim > 1 and array.shape[1:] != (1,):
            frame[name] = pd.Series(list(array.tolist()), index=index)
            continue
        values = decode(array, stated.get(name) or _as_it_is(name, array))
        frame[name] = values.set_axis(index) if index is not None else values
    return pd.DataFrame(frame, index=index)


def _as_it_is(name: str, array: np.ndarray[Any, Any]) -> Column:
    kinds: dict[str, Dtype] = {"b": "BOOL", "i": "INT64", "f": "FP64"}
    return Column(name=name, dtype=kinds.get(array.dtype.kind, "BYTES"))
