"""The read API's messages over gRPC (features.proto), from a reading and to a request's columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from themisto.errors import Invalid
from themisto.features.dtypes import Dtype, micros
from themisto.features.protocol import features_pb2 as pb
from themisto.features.readings import Reading, ReadingColumn, ReadingView

__all__ = ["columns_in", "message_of"]

_KINDS: Mapping[Dtype, tuple[str, Callable[[Any], Any], Any]] = {
    "bool": ("bools", bool, False),
    "int32": ("int64s", int, 0),
    "int64": ("int64s", int, 0),
    "float32": ("doubles", float, 0.0),
    "float64": ("doubles", float, 0.0),
    "string": ("strings", str, ""),
    "timestamp": ("int64s", int, 0),
    "decimal": ("strings", str, ""),
    "list[int64]": ("int64s", int, 0),
    "list[float32]": ("doubles", float, float("nan")),
    "list[float64]": ("doubles", float, float("nan")),
}
"""The list that holds a dtype's values, how they are made, and what stands where there is none."""

_STATES = {"present": pb.PRESENT, "stale": pb.STALE, "missing": pb.MISSING}


def columns_in(columns: Iterable[Any]) -> dict[str, list[Any]]:
    """A request's columns by name. Raises Invalid for one that is there twice, or contradicts itself."""
    found: dict[str, list[Any]] = {}
    for column in columns:
        if column.name in found:
            raise Invalid(f"The column '{column.name[:60]}' is there twice.", "Send each key once.")
        kind = column.WhichOneof("values")
        values: list[Any] = list(getattr(column, kind).values) if kind else []
        if column.lengths:
            values = _cut(column.name, values, column.lengths)
        for place in column.nulls:
            if place >= len(values):
                raise Invalid(f"'{column.name[:60]}' has no place {place}.", "Nulls are places among the values.")
            values[place] = None
        found[column.name] = values
    return found


def _cut(name: str, values: list[Any], lengths: Sequence[int]) -> list[Any]:
    if sum(lengths) != len(values):
        raise Invalid(f"The lengths of '{name[:60]}' do not fit its values.", "They add up to as many as there are.")
    rest = iter(values)
    return [list(islice(rest, length)) for length in lengths]


def message_of(reading: Reading) -> Any:
    """A reading as a ReadResponse."""
    spec, nested = reading.spec, reading.history is not None
    return pb.ReadResponse(
        service=spec.name,
        version=spec.version,
        group=spec.group,
        read_at_us=micros(reading.at),
        entities=reading.entities,
        columns=[_column(column, nested=nested) for column in reading.columns],
        views=[_view(view, nested=nested) for view in reading.views],
    )


def _column(column: ReadingColumn, *, nested: bool) -> Any:
    kind, make, nothing = _KINDS[column.dtype]
    values = [v for some in column.values for v in some] if nested else column.values
    message = pb.Column(name=column.name, dtype=column.dtype, view=column.view or "")
    message.nulls.extend(i for i, v in enumerate(values) if v is None)
    if column.dtype.startswith("list"):
        message.lengths.extend(len(v or ()) for v in values)
        values = [item for v in values for item in v or ()]
    held = getattr(message, kind)
    held.SetInParent()
    held.values.extend(nothing if v is None else make(v) for v in values)
    return message


def _view(view: ReadingView, *, nested: bool) -> Any:
    message = pb.View(name=view.name, version=view.version, ttl_s=view.ttl_s)
    message.states.extend(_STATES[state] for state in view.states)
    if nested:
        message.counts.extend(len(some) for some in view.times)
        message.event_times_us.extend(t for some in view.times for t in some)
    else:
        message.event_times_us.extend(0 if t is None else t for t in view.times)
    return message
