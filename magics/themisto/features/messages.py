"""Messages of a topic as rows of a view: what fits goes on, the rest is told with its place and the reason.

A reason names fields and types, never a value: it outlives the erasure of a person. The message itself stays where
it is, in the topic, for as long as Kafka keeps it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import NonNegativeInt

from themisto.errors import Invalid, NotFound
from themisto.features.columns import Column
from themisto.features.dtypes import Dtype, arrow_type, fits, from_json
from themisto.features.models import FeatureView
from themisto.types import Model

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Decoded", "Message", "Poison", "decode"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_RANGES: Mapping[Dtype, int] = {"int32": 2**31, "int64": 2**63}
_LATEST = 10**18
_SCALE, _EXACT = Decimal("1e-9"), Context(prec=60)
_FLOAT32_MAX = 3.4028234663852886e38
_WORDS: Sequence[tuple[type, str]] = (
    (bool, "true or false"), (int, "an integer"), (float, "a number"), (Decimal, "a number"), (str, "text"),
    (list, "a list"), (dict, "an object"),
)  # fmt: skip


class Message(NamedTuple):
    """A record of Kafka: where it stands, and what it says."""

    partition: int
    offset: int
    value: bytes | None


class Poison(Model):
    """A message that is no row: where it stands, how long it is, what is wrong with it."""

    partition: NonNegativeInt
    offset: NonNegativeInt
    size_bytes: NonNegativeInt
    reason: str


class Decoded(NamedTuple):
    """Rows with the view's columns, in the order of their messages, and the messages that are none."""

    rows: pa.Table
    poison: Sequence[Poison]


class _Wrong(Exception):
    """What is wrong with one message, in words without its values."""


def decode(view: FeatureView, messages: Sequence[Message]) -> Decoded:
    """The rows of messages, in a process of the platform; no message stops the others.

    A transform may leave messages out: these are neither rows nor poison.
    """
    import pyarrow as pa

    columns = view.transform.takes if view.transform is not None else _columns(view)
    poison: list[Poison] = []
    good: list[Message] = []
    values: list[list[Any]] = []
    for message in messages:
        try:
            values.append(_fields(view, columns, message.value))
            good.append(message)
        except _Wrong as wrong:
            poison.append(_poison(message, str(wrong)))
    arrays = [pa.array([row[i] for row in values], arrow_type(c.dtype)) for i, c in enumerate(columns)]
    source = pa.table(dict(zip([c.name for c in columns], arrays, strict=True)))
    parts = list(_parts(view, good, source, poison))
    rows = pa.concat_tables([part for part in parts if part is not None] or [_empty(view)])
    if view.windows is not None and _contradicts(view, rows):
        rows = _first_ones(view, good, source, poison)
    return Decoded(rows, sorted(poison, key=lambda p: (p.partition, p.offset)))


def _columns(view: FeatureView) -> tuple[Column, ...]:
    """The view's columns, as its file has them; what may not be empty is not nullable."""
    named = view.windows.sequence if view.windows is not None else None
    keys = [k.model_copy(update={"nullable": False}) for k in view.keys]
    times = [Column(name=n, dtype="timestamp", nullable=False) for n in view.times]
    stored = [c.model_copy(update={"nullable": False}) if c.name == named else c for c in view.stored]
    return (*keys, *times, *stored)


def _fields(view: FeatureView, columns: Sequence[Column], value: bytes | None) -> list[Any]:
    if value is None:
        raise _Wrong("it has no value")
    try:
        found = json.loads(value, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _Wrong("it is no JSON") from None
    if not isinstance(found, dict):
        raise _Wrong(f"it is {_word(found)}, not an object")
    times = view.stream.times if view.stream is not None else "iso"
    return [_field(column, found.get(column.name), times) for column in columns]


def _no_constant(_: str) -> Any:
    raise ValueError


def _field(column: Column, value: Any, times: str) -> Any:
    if value is None:
        if not column.nullable:
            raise _Wrong(f"'{column.name}' is empty")
        return None
    try:
        if column.dtype == "timestamp":
            return _moment(value, times)
        return _plain(column.dtype, value)
    except (ValueError, TypeError, ArithmeticError):
        said = f"{column.dtype} ({times})" if column.dtype == "timestamp" else column.dtype
        raise _Wrong(f"'{column.name}' is {_word(value)} that is not of {said}") from None


def _moment(value: Any, times: str) -> datetime:
    if isinstance(value, bool) or (times == "iso") != isinstance(value, str):
        raise TypeError
    if times == "iso":
        found: datetime = from_json("timestamp", value)
        return found
    if abs(value) > _LATEST:  # also: 1e999999999 is short to write and long to compute with
        raise ValueError
    return _EPOCH + timedelta(microseconds=int(value * _UNITS[times]))


def _plain(dtype: Dtype, value: Any) -> Any:
    """The value in Python's own type for the dtype; nothing is lost but a float's last digits."""
    if dtype == "decimal":
        if isinstance(value, bool):
            raise TypeError
        number = Decimal(value) if isinstance(value, int | str | Decimal) else Decimal(str(value))
        if (
            not number.is_finite()
            or (number and number.adjusted() > 28)
            or number != number.quantize(_SCALE, context=_EXACT)
        ):
            raise ValueError
        return number
    if dtype.startswith("list"):
        if not isinstance(value, list):
            raise TypeError
        return [_plain("int64" if dtype == "list[int64]" else "float64", item) for item in value]
    plain = float(value) if isinstance(value, Decimal) else value
    if not fits(dtype, plain):
        raise TypeError
    if dtype in _RANGES and not -_RANGES[dtype] <= plain < _RANGES[dtype]:
        raise ValueError
    if dtype.startswith("float") and (not math.isfinite(plain) or (dtype == "float32" and abs(plain) > _FLOAT32_MAX)):
        raise ValueError
    if isinstance(plain, str):
        plain.encode()  # half a surrogate pair is no text
    return float(plain) if dtype.startswith("float") else plain


def _word(value: Any) -> str:
    return next((word for kind, word in _WORDS if isinstance(value, kind)), "null")


def _parts(
    view: FeatureView, messages: Sequence[Message], source: pa.Table, poison: list[Poison]
) -> Iterator[pa.Table | None]:
    """Rows of all messages together; where that does not go, of each half, until those are found that are to blame."""
    if not messages:
        return
    try:
        yield _rows(view, source)
    except (Invalid, NotFound) as error:
        if len(messages) == 1:
            poison.append(_poison(messages[0], _without_values(view, error)))
            return
        half = len(messages) // 2
        yield from _parts(view, messages[:half], source.slice(0, half), poison)
        yield from _parts(view, messages[half:], source.slice(half), poison)


def _rows(view: FeatureView, source: pa.Table) -> pa.Table:
    """What of the source is a row, typed. Raises Invalid, NotFound."""
    import pyarrow as pa

    from themisto.features.sources import conform

    made = source if view.transform is None else view.transform.rows(source, view=view.name, server=True)
    columns = _columns(view)
    arrays = conform(made, columns)
    table = pa.table({c.name: arrays[c.name] for c in columns})
    empty = [k.name for k in view.keys if k.dtype == "string" and "" in set(table[k.name].to_pylist())]
    if empty:
        raise Invalid(f"'{empty[0]}' is empty text, which is nobody's key.", "Leave such messages out.")
    return table


def _empty(view: FeatureView) -> pa.Table:
    import pyarrow as pa

    return pa.table({c.name: pa.array([], arrow_type(c.dtype)) for c in _columns(view)})


def _without_values(view: FeatureView, error: Exception) -> str:
    """Our own sentences tell no value, but what DuckDB says of a statement does."""
    told = str(getattr(error, "detail", error))
    return f"the transform of '{view.name}' does not run on it" if "does not run" in told else told.rstrip(".")


def _contradicts(view: FeatureView, rows: pa.Table) -> bool:
    """Whether one name stands for different events."""
    named = rows.select(list(view.identity)).group_by(list(view.identity)).aggregate([]).num_rows
    seen = _distinct(rows)
    return seen > named


def _distinct(rows: pa.Table) -> int:
    return len({repr(row) for row in rows.to_pylist()})


def _first_ones(view: FeatureView, messages: Sequence[Message], source: pa.Table, poison: list[Poison]) -> pa.Table:
    """Message by message: of different events of one name the first counts, as it does among those on record."""
    import pyarrow as pa

    to_blame = {(p.partition, p.offset) for p in poison}
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    kept = []
    for number, message in enumerate(messages):
        if (message.partition, message.offset) in to_blame:
            continue
        for row in (part := _rows(view, source.slice(number, 1))).to_pylist():
            name = tuple(row[n] for n in view.identity)
            if first.setdefault(name, row) == row:
                kept.append(part)
            else:
                told = ", ".join(view.identity)
                poison.append(_poison(message, f"another event of the same {told} came before it"))
    return pa.concat_tables(kept or [_empty(view)])


def _poison(message: Message, reason: str) -> Poison:
    size = len(message.value or b"")
    return Poison(partition=message.partition, offset=message.offset, size_bytes=size, reason=reason)
