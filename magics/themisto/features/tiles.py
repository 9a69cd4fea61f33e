"""Tiles: the partial aggregates of one entity's events in one bucket, kept up event by event.

A tile is a row of the online store: key, beginning of the bucket, when it was written, and then how many events it
has, which ones, and the partials of their columns. An event is known by (key, event time, sequence): one that comes
again changes nothing, one that comes late changes its own tile, and the order of arrival changes nothing. Reading
merges the tiles of a window; no event is looked at twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from themisto.errors import Invalid
from themisto.features.layout import SLACK, Event, Layout, Tile
from themisto.features.online import OnlineStore, OnlineTable, Row
from themisto.features.partials import State, answer
from themisto.features.windows import MAX_EVENTS, Window

__all__ = ["Applied", "Tiles", "part_of", "read_windows", "write_rows"]

_log = logging.getLogger(__name__)
_BATCH = 5000
_NEWEST = 4
"""Tiles of a key to look at first: events are mostly new."""

_WRITING = threading.Lock()
"""A tile is read, changed and written again: the store's owner does that in one thread at a time."""


class Applied(NamedTuple):
    """What came of events: counted now, counted before, without room in a full bucket."""

    new: int = 0
    again: int = 0
    full: int = 0


class Tiles:
    """The windows of one view in an online store.

    table: as `OnlineTable.of` makes it for a windowed view. Only the process that owns the store makes one.
    """

    def __init__(
        self, store: OnlineStore, table: OnlineTable, *, now: Callable[[], int] = lambda: time.time_ns() // 1000
    ) -> None:
        if table.windows is None:
            raise Invalid(f"The table '{table.name}' has no windows.", "Write its rows as they are.")
        self._store = store
        self._table = table
        self._windows = table.windows
        self._layout = Layout(table.windows)
        self._now = now

    def apply(self, events: Iterable[Event]) -> Applied:
        """Add events `(key, time in µs, sequence, one value an input)`; each counts once, whatever the order.

        Of two different ones with one key, time and sequence the first counts. What is cut off can come again, whole.
        """
        done, source = Applied(), iter(events)
        while batch := list(islice(source, _BATCH)):
            with _WRITING:
                done = Applied(*map(sum, zip(done, self._apply(batch), strict=True)))
        return done

    def _apply(self, events: Sequence[Event]) -> Applied:
        every = self._windows.every_us
        by_tile: dict[tuple[str, int], dict[tuple[int, int], Event]] = defaultdict(dict)
        for event in events:
            by_tile[event[0], event[1] - event[1] % every].setdefault((event[1], event[2]), event)
        found = self._find(by_tile)
        rows, new, full = [], 0, 0
        for (key, start), group in by_tile.items():
            tile = found.get((key, start))
            known = frozenset() if tile is None else tile.events
            fresh = sorted(group.keys() - known)
            taken = fresh[: MAX_EVENTS - len(known)]
            new, full = new + len(taken), full + len(fresh) - len(taken)
            if taken:
                written = self._now() if tile is None else max(self._now(), tile.written + 1)
                tile = self._layout.added(tile, [group[name] for name in taken])
                rows.append((key, start, written, *self._layout.values(tile, start)))
        self._store.write(self._table, rows)
        return Applied(new, len(events) - new - full, full)

    def _find(self, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Tile]:
        """The tiles that are there; all tiles are read of the few keys that have late events."""
        first: dict[str, int] = {}
        for key, start in wanted:
            first[key] = min(start, first.get(key, start))
        rows = dict(zip(first, self._store.history(self._table, list(first), _NEWEST), strict=True))
        late = [key for key, some in rows.items() if len(some) == _NEWEST and first[key] < some[-1][1]]
        if late:
            rows |= zip(late, self._store.history(self._table, late, self._table.online.keep), strict=True)
        return {(key, row[1]): self._layout.tile(row) for key, some in rows.items() for row in some}

    def values(self, keys: Sequence[str], at: int, features: Sequence[str] | None = None) -> list[Row]:
        """For each key `(key, end of its windows, 0, one value a feature)` at a time in µs."""
        names = tuple(self._windows.windows) if features is None else features
        return read_windows(self._store, part_of(self._table, names), names, keys, at)


def write_rows(store: OnlineStore, table: OnlineTable, rows: Iterable[Row], *, new: bool = False) -> int:
    """Rows of a view as they are, events of a windowed view into its tiles; how many were sent.

    new: none of these entities is known to be online.
    """
    if table.windows is None:
        return store.write(table, rows, new=new)
    applied = Tiles(store, table).apply(rows)
    if applied.full:
        _log.warning("%s: %d events found their bucket full and are not counted", table.name, applied.full)
    return sum(applied)


def part_of(table: OnlineTable, features: Sequence[str]) -> OnlineTable:
    """A windowed view's table with only the columns that some features need."""
    assert table.windows is not None
    layout = Layout(table.windows, [table.windows.windows[f] for f in features])
    return table.model_copy(update={"columns": layout.read_columns})


def read_windows(
    store: OnlineStore, table: OnlineTable, features: Sequence[str], keys: Sequence[str], at: int
) -> list[Row]:
    """As `Tiles.values`. table: as `part_of` gives it for these features."""
    windows = table.windows
    assert windows is not None
    asked = [windows.windows[f] for f in features]
    layout = Layout(windows, asked)
    count = windows.reach_us(features) // windows.every_us + SLACK
    end = at - at % windows.every_us
    found = {}
    distinct = list(dict.fromkeys(keys))
    for key, rows in zip(distinct, store.history(table, distinct, count), strict=True):
        tiles = [(row[1], layout.states(row[3:])) for row in rows]
        found[key] = (key, end, 0, *_answers(layout, asked, tiles, at))
    return [found[key] for key in keys]


def _answers(
    layout: Layout, asked: Sequence[Window], tiles: Sequence[tuple[int, dict[str, State]]], at: int
) -> list[Any]:
    """Windows that end together are nested: each goes on from the next shorter one, so that a tile is merged once."""
    answers: dict[str, Any] = {}
    for end in {w.span(at)[1] for w in asked}:
        states: dict[str, State] = {}
        before = end
        for window in sorted((w for w in asked if w.span(at)[1] == end), key=lambda w: w.length_us):
            start = window.span(at)[0]
            more = [of for begin, of in tiles if start <= begin < before]
            before = start
            for name in layout.parts:
                layout.merge(states, name, [of[name] for of in more if name in of])
            answers[window.name] = answer(window, layout.of(window, states))
    return [answers[w.name] for w in asked]
