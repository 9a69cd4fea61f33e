"""The layout of a tile: which partials its windows need, and in which columns of the online store they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from themisto.features.columns import Column
from themisto.features.dtypes import Dtype
from themisto.features.partials import NEEDS, PARTIALS, State, usable
from themisto.features.windows import Window, Windows

__all__ = ["SLACK", "Event", "Layout", "Part", "Tile"]

SLACK = 16
"""Tiles kept beyond the longest window: for events that say they are of the future."""

_NAMES = Column(name="names", dtype="list[int64]")
_COUNT = "events"
_HEAD = 3  # key, beginning, when it was written

Event = tuple[Any, ...]
"""`(key, time in µs, sequence, one value an input)`."""


@dataclass(frozen=True)
class Tile:
    """The events of one entity in one bucket: when it was written, their (time, sequence), the states by part."""

    written: int
    events: frozenset[tuple[int, int]]
    states: Mapping[str, State]


class Part(NamedTuple):
    """One partial of one input; `place` is the input's place in an event, None for the event itself."""

    kind: str
    dtype: Dtype
    place: int | None
    columns: tuple[Column, ...]


class Layout:
    """The parts of a view's windows, or of those that are asked for."""

    def __init__(self, windows: Windows, asked: Iterable[Window] | None = None) -> None:
        self._place = {c.name: i for i, c in enumerate(windows.inputs)}
        self.parts: dict[str, Part] = {}
        for window in windows.windows.values() if asked is None else asked:
            for kind in NEEDS[window.function]:
                self.parts[self._name(window, kind)] = self._part(window, kind)
        self.parts.setdefault(_COUNT, Part("n", "int64", None, (Column(name=_COUNT, dtype="int64"),)))

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns of a tile behind its head."""
        return (_NAMES, *self.read_columns)

    @property
    def read_columns(self) -> tuple[Column, ...]:
        """As `columns`, without the names of events, which only a writer needs."""
        return tuple(column for part in self.parts.values() for column in part.columns)

    def tile(self, row: Sequence[Any]) -> Tile:
        """A row of all columns."""
        names, states = row[_HEAD] or [], self.states(row[_HEAD + 1 :])
        pairs = zip(names[::2], names[1::2], strict=True)
        return Tile(row[2], frozenset((row[1] + offset, sequence) for offset, sequence in pairs), states)

    def states(self, values: Sequence[Any]) -> dict[str, State]:
        """The states in the values of `read_columns`; those of parts without a value are left out."""
        found, at = {}, 0
        for name, part in self.parts.items():
            width = len(part.columns)
            if values[at] is not None:
                found[name] = tuple(values[at : at + width])
            at += width
        return found

    def values(self, tile: Tile, start: int) -> list[Any]:
        """A tile as a row's values behind the head."""
        row: list[Any] = [[n for at, sequence in sorted(tile.events) for n in (at - start, sequence)]]
        for name, part in self.parts.items():
            row.extend(tile.states.get(name, (None,) * len(part.columns)))
        return row

    def added(self, tile: Tile | None, events: Sequence[Event]) -> Tile:
        """The tile with more events, none of which it has."""
        before = Tile(0, frozenset(), {}) if tile is None else tile
        states = dict(before.states)
        for name, part in self.parts.items():
            new = [_state(part, event) for event in events]
            self.merge(states, name, [state for state in new if state is not None])
        return Tile(before.written, before.events | {(e[1], e[2]) for e in events}, states)

    def merge(self, states: dict[str, State], name: str, more: Sequence[State]) -> None:
        """Merge more states of a part into `states`."""
        if more:
            both = [states[name], *more] if name in states else more
            states[name] = PARTIALS[self.parts[name].kind].merge(both)

    def of(self, window: Window, states: Mapping[str, State]) -> dict[str, State]:
        """The states that a window's answer needs, by kind."""
        named = {kind: self._name(window, kind) for kind in NEEDS[window.function]}
        return {kind: states[name] for kind, name in named.items() if name in states}

    def _name(self, window: Window, kind: str) -> str:
        return _COUNT if window.column == "*" else f"c{self._place[window.column]}_{kind}"

    def _part(self, window: Window, kind: str) -> Part:
        if window.input_dtype is None:
            return Part(kind, "int64", None, (Column(name=_COUNT, dtype="int64"),))
        place = self._place[window.column]
        stored = PARTIALS[kind].columns(window.input_dtype)
        columns = tuple(Column(name=f"c{place}_{suffix}", dtype=dtype) for suffix, dtype in stored)
        return Part(kind, window.input_dtype, place, columns)


def _state(part: Part, event: Event) -> State | None:
    when = event[1], event[2]
    if part.place is None:
        return PARTIALS[part.kind].of(1, when)
    value = usable(part.dtype, event[_HEAD + part.place])
    return None if value is None else PARTIALS[part.kind].of(value, when)
