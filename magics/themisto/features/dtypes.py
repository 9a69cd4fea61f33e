"""The types that keys and features have, and what each is called elsewhere.

| dtype | in Python | Arrow | to a model (Open Inference Protocol) |
|---|---|---|---|
| bool, int32, int64 | bool, int | the same | BOOL, INT32, INT64 |
| float32, float64, string | float, str | the same | FP32, FP64, BYTES |
| timestamp | datetime, in UTC; µs | timestamp[us, UTC] | INT64, microseconds since 1970 |
| decimal | Decimal; 38 digits, 9 of them behind the point | decimal128(38, 9) | FP64 |
| list[int64], list[float32], list[float64] | list: an embedding, a sequence | list | INT64, FP32, FP64 |

Between processes and in stores a timestamp is its microseconds, a decimal its text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from themisto.errors import Invalid

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "KEY_DTYPES",
    "OIP",
    "Dtype",
    "arrow_type",
    "dtype_of",
    "fits",
    "from_json",
    "is_time",
    "micros",
    "moment_of",
    "stored",
    "to_json",
]

Dtype = Literal[
    "bool",
    "int32",
    "int64",
    "float32",
    "float64",
    "string",
    "timestamp",
    "decimal",
    "list[int64]",
    "list[float32]",
    "list[float64]",
]

KEY_DTYPES: frozenset[Dtype] = frozenset({"bool", "int32", "int64", "string"})
"""What a key can be."""

OIP: Mapping[Dtype, str] = {
    "bool": "BOOL",
    "int32": "INT32",
    "int64": "INT64",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
    "timestamp": "INT64",
    "decimal": "FP64",
    "list[int64]": "INT64",
    "list[float32]": "FP32",
    "list[float64]": "FP64",
}
"""The Open Inference Protocol's words for the types."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS, _SCALE = 38, 9


def arrow_type(dtype: Dtype) -> pa.DataType:
    """The Arrow type behind a dtype."""
    import pyarrow as pa

    types: dict[Dtype, pa.DataType] = {
        "bool": pa.bool_(),
        "int32": pa.int32(),
        "int64": pa.int64(),
        "float32": pa.float32(),
        "float64": pa.float64(),
        "string": pa.string(),
        "timestamp": pa.timestamp("us", "UTC"),
        "decimal": pa.decimal128(_DIGITS, _SCALE),
        "list[int64]": pa.list_(pa.int64()),
        "list[float32]": pa.list_(pa.float32()),
        "list[float64]": pa.list_(pa.float64()),
    }
    return types[dtype]


def dtype_of(name: str, type_: pa.DataType) -> Dtype:
    """The dtype that keeps a column of an Arrow type. Raises Invalid for a type that none keeps."""
    import pyarrow as pa

    t = pa.types
    if t.is_dictionary(type_):
        return dtype_of(name, type_.value_type)
    kinds: list[tuple[Callable[[Any], bool], Dtype]] = [
        (t.is_boolean, "bool"),
        (lambda x: (t.is_integer(x) and x.bit_width < 32) or t.is_int32(x), "int32"),
        (t.is_integer, "int64"),
        (lambda x: t.is_float16(x) or t.is_float32(x), "float32"),
        (t.is_float64, "float64"),
        (lambda x: t.is_string(x) or t.is_large_string(x) or t.is_string_view(x), "string"),
        (is_time, "timestamp"),
        (t.is_decimal, "decimal"),
        (_is_list(t.is_integer), "list[int64]"),
        (_is_list(lambda x: t.is_float16(x) or t.is_float32(x)), "list[float32]"),
        (_is_list(t.is_float64), "list[float64]"),
    ]
    for is_kind, dtype in kinds:
        if is_kind(type_):
            return dtype
    raise Invalid(
        f"The column '{name}' is of type {type_}.",
        "Features are numbers, text, bool, times, decimals or lists of numbers; keys are text, integers or bool.",
    )


def is_time(type_: pa.DataType) -> bool:
    """Whether an Arrow type is a time or a date."""
    import pyarrow as pa

    return bool(pa.types.is_timestamp(type_) or pa.types.is_date(type_))


def _is_list(is_item: Callable[[Any], bool]) -> Callable[[Any], bool]:
    import pyarrow as pa

    t = pa.types
    return lambda x: bool((t.is_list(x) or t.is_large_list(x) or t.is_fixed_size_list(x)) and is_item(x.value_type))


_PYTHON: Mapping[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int32": (int,),
    "int64": (int,),
    "float32": (int, float),
    "float64": (int, float),
    "string": (str,),
}


def fits(dtype: Dtype, value: Any) -> bool:
    """Whether a value, as JSON has it, is one of the dtype.

    >>> fits("float64", 1), fits("int64", True), fits("list[float64]", [1, 2.5])
    (True, False, True)
    """
    if dtype.startswith("list"):
        return isinstance(value, list | tuple) and all(fits(_item(dtype), item) for item in value)
    if dtype in ("timestamp", "decimal"):
        try:
            from_json(dtype, value)
        except (ValueError, ArithmeticError, TypeError):
            return False
        return not isinstance(value, bool)
    kinds = _PYTHON[dtype]
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _item(dtype: Dtype) -> Dtype:
    items: dict[Dtype, Dtype] = {"list[int64]": "int64", "list[float32]": "float32", "list[float64]": "float64"}
    return items[dtype]


def micros(moment: datetime) -> int:
    """Microseconds since 1970, exact. Naive moments are read as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


@lru_cache(maxsize=10_000)  # rows of one batch share their event time
def moment_of(us: int) -> datetime:
    """The moment of microseconds since 1970, exact, also where the platform's own clock does not reach."""
    return _EPOCH + timedelta(microseconds=us)


def to_json(dtype: Dtype, value: Any) -> Any:
    """A store's value for people and machines: times in ISO 8601, decimals as text, what is no number as null."""
    if value is None:
        return None
    if dtype == "timestamp":
        return (_EPOCH + timedelta(microseconds=value)).isoformat()
    if dtype == "decimal":
        return str(value)
    if isinstance(value, list | tuple):
        return [None if isinstance(v, float) and not math.isfinite(v) else v for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(dtype: Dtype, value: Any) -> Any:
    """What `to_json` made, in Python's own types; a timestamp may also be its microseconds.

    Raises ValueError, TypeError or ArithmeticError for what is none.
    """
    if value is None:
        return None
    if dtype == "timestamp":
        if isinstance(value, int):
            return _EPOCH + timedelta(microseconds=value)
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    if dtype == "decimal":
        number = Decimal(str(value))
        if not number.is_finite():
            raise ValueError(f"{value} is no number")
        return number
    return value


def stored(dtype: Dtype, value: Any) -> Any:
    """What `to_json` made, as a store keeps it: a timestamp as its microseconds."""
    plain = from_json(dtype, value)
    return micros(plain) if dtype == "timestamp" and plain is not None else plain
