"""Answers of the read API as JSON has them: columns with a value an entity, and what stands behind each view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from themisto.features.dtypes import Dtype, micros, moment_of, to_json
from themisto.features.readings import Reading, ReadingColumn, ReadingView, State
from themisto.types import Identifier, Json, Model, UtcTime

__all__ = ["Answer", "AnswerColumn", "AnswerView", "answer_of", "joined"]


class AnswerColumn(Model):
    """A feature: its type, the view it is of (None: computed at the request), one value an entity.

    With `history` the value is a list, the newest first.
    """

    name: str
    dtype: Dtype
    view: Identifier | None = None
    values: list[Json]


class AnswerView(Model):
    """What stands behind the columns of a view; event times and ages are lists as the values are, with `history`."""

    version: int
    ttl_s: float | None = None
    states: list[State]
    event_times: list[UtcTime | None] | list[list[UtcTime]]
    ages_s: list[float | None] | list[list[float]]


class Answer(Model):
    """A service, read: all columns and views have one place an entity, in the order of the request."""

    service: str
    version: int
    group: str = ""
    read_at: UtcTime
    entities: int
    history: int | None = None
    columns: tuple[AnswerColumn, ...]
    views: Mapping[str, AnswerView]

    @cached_property
    def rows(self) -> list[list[Json]]:
        """One row an entity."""
        if not self.columns:
            return [[] for _ in range(self.entities)]
        return [list(row) for row in zip(*(c.values for c in self.columns), strict=True)]

    @cached_property
    def event_times(self) -> list[datetime | None]:
        """Of each entity the oldest event time of its views; None where none has a row."""
        if not self.views:
            return [None] * self.entities
        rows: Any = zip(*(view.event_times for view in self.views.values()), strict=True)
        return [min((t for t in row if t is not None), default=None) for row in rows]


def answer_of(reading: Reading) -> Answer:
    """A reading as JSON says it: times in ISO 8601, decimals as text, NaN and infinities as null."""
    spec, nested = reading.spec, reading.history is not None
    return Answer.model_construct(
        service=spec.name,
        version=spec.version,
        group=spec.group,
        read_at=reading.at,
        entities=reading.entities,
        history=reading.history,
        columns=tuple(_column(column, nested=nested) for column in reading.columns),
        views={view.name: _view(view, micros(reading.at), nested=nested) for view in reading.views},
    )


def joined(parts: Sequence[Answer]) -> Answer:
    """Answers of one service to several requests, as if it had been one."""
    first = parts[0]
    columns = tuple(
        column.model_copy(update={"values": [v for part in parts for v in part.columns[i].values]})
        for i, column in enumerate(first.columns)
    )
    views = {
        name: view.model_copy(
            update={
                field: [one for part in parts for one in getattr(part.views[name], field)]
                for field in ("states", "event_times", "ages_s")
            }
        )
        for name, view in first.views.items()
    }
    return first.model_copy(
        update={"entities": sum(part.entities for part in parts), "columns": columns, "views": views}
    )


def _column(column: ReadingColumn, *, nested: bool) -> AnswerColumn:
    dtype = column.dtype
    values: list[Any] = (
        [[to_json(dtype, v) for v in some] for some in column.values]
        if nested
        else [to_json(dtype, v) for v in column.values]
    )
    return AnswerColumn.model_construct(name=column.name, dtype=dtype, view=column.view, values=values)


def _view(view: ReadingView, now_us: int, *, nested: bool) -> AnswerView:
    def told(times: Any, say: Any) -> list[Any]:
        return [[say(t) for t in some] for some in times] if nested else [None if t is None else say(t) for t in times]

    return AnswerView.model_construct(
        version=view.version,
        ttl_s=view.ttl_s,
        states=view.states,
        event_times=told(view.times, moment_of),
        ages_s=told(view.times, lambda t: (now_us - t) / 1_000_000),
    )
