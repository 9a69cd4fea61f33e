"""Windows: aggregates over spans of time, as one definition that holds offline, online and in a stream.

A bucket is `every` seconds long and begins at a multiple of it since 1970, in UTC. A sliding window of length W at a
time t is `[end - W, end)`, where `end` is the beginning of t's bucket: the bucket that is not over yet is not seen,
so that an answer never depends on what else of it comes. A tumbling window is the last whole one of its own length,
`[end - W, end)` with `end` the last multiple of W at or before t. An event belongs to a window by its event time
alone, however late it came, and counts once: (key, event time, sequence) says which one it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from themisto.errors import Invalid
from themisto.features.columns import Column
from themisto.features.dtypes import Dtype
from themisto.features.nouns import Noun, seconds
from themisto.types import Identifier, Model

__all__ = ["MAX_EVENTS", "Aggregate", "Function", "Window", "Windows"]

Function = Literal["count", "sum", "avg", "min", "max", "stddev", "last", "count_distinct"]

MAX_EVENTS = 4096
"""Events of one entity in one bucket: by their names it is known which ones came before."""

_MAX_BUCKETS = 15_000
_MAX_NAME = 48
_NUMBERS: frozenset[Dtype] = frozenset({"int32", "int64", "float32", "float64", "decimal"})
_LISTS: frozenset[Dtype] = frozenset({"list[int64]", "list[float32]", "list[float64]"})
_FLOATS: frozenset[Dtype] = frozenset({"float32", "float64"})
_ALL: frozenset[Dtype] = _NUMBERS | _LISTS | {"bool", "string", "timestamp"}
_TAKES: dict[Function, frozenset[Dtype]] = {
    "count": _ALL,
    "sum": _NUMBERS,
    "avg": _NUMBERS,
    "stddev": _NUMBERS,
    "min": _NUMBERS | {"string", "timestamp"},
    "max": _NUMBERS | {"string", "timestamp"},
    "last": _ALL,
    "count_distinct": _ALL - _FLOATS - _LISTS,
}
_Seconds = Annotated[int, Field(ge=1, le=50 * 366 * 86400)]
_Column = Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9_]{0,47})$")]


class Aggregate(Noun):
    """One function of one column over one or several windows.

    column: a column of the events, or `"*"` for the events themselves.
    function: "count", "sum", "avg", "min", "max", "stddev", "last" or "count_distinct"; empty values and floats
        that are no number (or beyond 1e150) are left out.
    over: how long the windows are (`"7d"`, `["1h", "7d"]`), in whole seconds.
    tumbling: the last whole window of the length instead of the one that slides along.
    name: what its features are called in front of the length; by default `avg_amount`.

    >>> Aggregate("amount", "avg", over=["1h", "7d"]).features
    ('avg_amount_1h', 'avg_amount_7d')
    """

    column: _Column
    function: Function
    over_s: Annotated[tuple[_Seconds, ...], Field(min_length=1, max_length=20)]
    tumbling: bool = False
    name: Identifier | None = None

    def __init__(
        self,
        column: str,
        function: str,
        *,
        over: str | float | timedelta | Sequence[str | float | timedelta] = (),
        tumbling: bool = False,
        name: str | None = None,
        over_s: Sequence[int] = (),
    ) -> None:
        spans = [over] if isinstance(over, str | int | float | timedelta) else over
        lengths = tuple(over_s) or tuple(whole_seconds(span) for span in spans)
        super().__init__(column=column, function=function, over_s=lengths, tumbling=tumbling, name=name)

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # as in Noun

    @property
    def features(self) -> tuple[str, ...]:
        """The names of its features, one a window."""
        stem = self.name or (self.function if self.column == "*" else f"{self.function}_{self.column}")
        return tuple(f"{stem}_{_label(s)}{'_tumbling' if self.tumbling else ''}" for s in self.over_s)


class Window(Model):
    """One feature of a windowed view; times in microseconds."""

    name: str
    column: str
    function: Function
    dtype: Dtype
    input_dtype: Dtype | None
    length_us: int
    step_us: int
    """Its end is a multiple of this: of a bucket, or of its own length where it tumbles."""

    def span(self, at: int) -> tuple[int, int]:
        """The window at a time, `[from, to)`.

        >>> hour = 3_600_000_000
        >>> Window(
        ...     name="n",
        ...     column="*",
        ...     function="count",
        ...     dtype="int64",
        ...     input_dtype=None,
        ...     length_us=2 * hour,
        ...     step_us=hour,
        ... ).span(5 * hour + 1)
        (10800000000, 18000000000)
        """
        end = at - at % self.step_us
        return end - self.length_us, end


class Windows(Noun):
    """What a view computes of its events.

    every_s: length of a bucket, seconds; windows are multiples of it.
    sequence: the integer column that tells events of one entity and time apart; None: there is one event a time.
    inputs: the columns of the events that are aggregated.
    """

    every_s: _Seconds
    aggregates: Annotated[tuple[Aggregate, ...], Field(min_length=1, max_length=100)]
    sequence: Identifier | None = None
    inputs: tuple[Column, ...] = ()

    @classmethod
    def of(
        cls,
        view: str,
        aggregates: Iterable[Aggregate],
        every: str | float | timedelta | None,
        sequence: str | None,
        inputs: Sequence[Column],
    ) -> Windows:
        """As a person writes them. Raises Invalid."""
        if every is None:
            raise Invalid(f"FeatureView {view}: its aggregates have no buckets.", 'Say how long one is: every="5m".')
        return cls(every_s=whole_seconds(every), aggregates=tuple(aggregates), sequence=sequence, inputs=tuple(inputs))

    @model_validator(mode="after")
    def _sound(self) -> Self:
        types = {c.name: c.dtype for c in self.inputs}
        names = [name for aggregate in self.aggregates for name in aggregate.features]
        wrong = sorted({n for n in names if names.count(n) > 1 or len(n) > _MAX_NAME})
        if wrong:
            raise Invalid(f"'{wrong[0]}' is the name of two features, or too long.", "Give the aggregate a name=.")
        for aggregate in self.aggregates:
            what = f"{aggregate.function} of '{aggregate.column}'"
            if aggregate.column == "*":
                if aggregate.function != "count":
                    raise Invalid(f"The {what} is not a number.", "Name a column; only events as such are counted.")
            elif aggregate.column not in types:
                raise Invalid(f"The {what} has no such column.", f"The events have {', '.join(types) or 'none'}.")
            elif types[aggregate.column] not in _TAKES[aggregate.function]:
                takes = ", ".join(sorted(_TAKES[aggregate.function]))
                raise Invalid(f"The {what} is over {types[aggregate.column]}.", f"It takes {takes}.")
            for length in aggregate.over_s:
                if length % self.every_s:
                    raise Invalid(
                        f"The {what} over {_label(length)} is not made of whole buckets of {_label(self.every_s)}.",
                        "Choose lengths that are multiples of every=.",
                    )
                if length * (2 if aggregate.tumbling else 1) // self.every_s > _MAX_BUCKETS:
                    raise Invalid(
                        f"The {what} over {_label(length)} needs over {_MAX_BUCKETS} buckets.",
                        "Choose a longer every=.",
                    )
        return self

    @property
    def stored(self) -> tuple[Column, ...]:
        """What is kept of an event beside its key and times."""
        named = () if self.sequence is None else (Column(name=self.sequence, dtype="int64", nullable=False),)
        return (*named, *self.inputs)

    @cached_property
    def every_us(self) -> int:
        return self.every_s * 1_000_000

    @cached_property
    def windows(self) -> dict[str, Window]:
        """Its features by name, in order."""
        inputs = {c.name: c for c in self.inputs}
        found = {}
        for aggregate in self.aggregates:
            given = None if aggregate.column == "*" else inputs[aggregate.column].dtype
            for name, length in zip(aggregate.features, aggregate.over_s, strict=True):
                found[name] = Window(
                    name=name,
                    column=aggregate.column,
                    function=aggregate.function,
                    dtype=_answer(aggregate.function, given),
                    input_dtype=given,
                    length_us=length * 1_000_000,
                    step_us=(length if aggregate.tumbling else self.every_s) * 1_000_000,
                )
        return found

    @property
    def features(self) -> tuple[Column, ...]:
        """The features as columns; what is said of the column of the events is said of them."""
        said = {c.name: c.model_dump(include={"description", "owner", "tags", "personal"}) for c in self.inputs}
        return tuple(Column(name=w.name, dtype=w.dtype, **said.get(w.column, {})) for w in self.windows.values())

    def reach_us(self, names: Iterable[str] | None = None) -> int:
        """How far back from now the windows of some features (all) may begin, at most."""
        chosen = self.windows.values() if names is None else [self.windows[n] for n in names]
        return max(w.length_us + w.step_us for w in chosen)


def whole_seconds(span: str | float | timedelta) -> int:
    """A duration in whole seconds. Raises Invalid for one that is not."""
    length = seconds(span) or 0.0
    if length < 1 or length != int(length):
        raise Invalid(f"'{span}' is not one or more whole seconds.", "Write for example 5m, 1h or 7d.")
    return int(length)


def _label(length_s: int) -> str:
    """A duration in its largest unit: `90m`, `7d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if length_s % size == 0:
            return f"{length_s // size}{unit}"
    return f"{length_s}s"


def _answer(function: Function, given: Dtype | None) -> Dtype:
    """The type of a function's answer."""
    if given is None or function in ("count", "count_distinct"):
        return "int64"
    if function in ("avg", "stddev"):
        return "float64"
    if function == "sum":
        return {"int32": "int64", "int64": "int64", "decimal": "decimal"}.get(given, "float64")  # type: ignore[return-value]
    return given
