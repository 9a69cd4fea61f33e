"""Writing to Cassandra: which of two rows stays, with what timestamp, and what goes.

The cells' timestamp is the time of the write, so that what is written after an erasure is there whatever its sequence.
Of two rows of one event time the one with the greater sequence wins: the store's owner, the only process that writes,
looks before it writes. New entities cost neither a look nor a tombstone.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from cassandra.query import BatchStatement, BatchType, BoundStatement

from themisto.errors import Invalid
from themisto.features.cassandra_session import WRITES, Statements, ours
from themisto.features.cassandra_settings import AT_ONCE
from themisto.features.online import OnlineTable, Row

__all__ = ["Writer"]

_CHUNK = 2000  # rows that one look is for
_BATCH = 10  # partitions in one unlogged batch: more draw warnings
_WINDOW = 64  # batches under way
_LONGEST_TTL_S = 630_720_000  # Cassandra's own: 20 years


class Writer:
    """Writes and erases, one table at a time."""

    def __init__(self, session: Any, statements: Statements) -> None:
        self._session = session
        self._statements = statements
        self._lock = threading.Lock()
        self._tables: dict[str, threading.Lock] = {}
        self._stamped = 0

    def write(self, table: OnlineTable, rows: Iterable[Row], *, new: bool = False) -> int:
        width = len(table.columns) + 3
        count, source = 0, iter(rows)
        self._insert(table)  # a table that was never made is told even where there is nothing to write
        while chunk := list(islice(source, _CHUNK)):
            if any(len(row) != width for row in chunk):  # the driver accepts too few silently
                raise Invalid(f"Not all rows have {width} values.", "Materialize the view again.")
            with self._only_writer(table), ours():
                self._send(table, self._stamps(table, chunk, new=new), trim=not new)
            count += len(chunk)
        return count

    def erase(self, table: OnlineTable, keys: Sequence[str]) -> None:
        look = self._statements.get(
            f'SELECT MAX(WRITETIME(seq_)) FROM "{table.name}" WHERE key_ = ?',  # noqa: S608 - identifiers by whitelist
            table,
        )
        remove = self._statements.get(
            f'DELETE FROM "{table.name}" USING TIMESTAMP ? WHERE key_ = ?',  # noqa: S608 - as above
            table,
        )
        with self._only_writer(table), ours():
            for start in range(0, len(keys), AT_ONCE):
                some = keys[start : start + AT_ONCE]
                looks = [self._session.execute_async(look, (key,)) for key in some]
                now = self._now(after=[stamp for found in looks for (stamp,) in found.result() if stamp is not None])
                under_way = [self._session.execute_async(remove, (now, key), execution_profile=WRITES) for key in some]
                for future in under_way:
                    future.result()

    def _insert(self, table: OnlineTable) -> Any:
        names = ", ".join(["key_", "at_", "seq_", *(f'"{c.name}"' for c in table.columns)])
        return self._statements.get(
            f'INSERT INTO "{table.name}" ({names}) '  # noqa: S608 - identifiers by whitelist
            f"VALUES ({', '.join('?' * (len(table.columns) + 3))}) USING TIMESTAMP ? AND TTL ?",
            table,
        )

    def _send(self, table: OnlineTable, stamped: Sequence[tuple[Row, int]], *, trim: bool) -> None:
        insert = self._insert(table)
        remove = self._statements.get(
            f'DELETE FROM "{table.name}" USING TIMESTAMP ? WHERE key_ = ? AND at_ < ?',  # noqa: S608 - as above
            table,
        )
        inserted, trimmed = _binder(insert), _binder(remove)
        under_way: deque[Any] = deque()
        for start in range(0, len(stamped), _BATCH):
            part = stamped[start : start + _BATCH]
            batch = BatchStatement(BatchType.UNLOGGED, consistency_level=insert.consistency_level)
            batch.is_idempotent = True  # as all of ours
            for row, stamp in part:
                left = _left_s(row[1], table.online.ttl_s)
                if left is not None:
                    batch.add(inserted((*row, stamp, left)))
            for key, at, stamp in _full(part, table.online.keep) if trim else ():
                batch.add(trimmed((stamp, key, at)))
            if len(batch):
                under_way.append(self._session.execute_async(batch, execution_profile=WRITES))
            if len(under_way) >= _WINDOW:
                under_way.popleft().result()
        for future in under_way:
            future.result()

    def _stamps(self, table: OnlineTable, rows: Sequence[Row], *, new: bool) -> list[tuple[Row, int]]:
        """The rows that are to be written, each with the timestamp of its cells."""
        if table.windows is not None:  # the sequence of a tile is when it was written
            return [(row, row[2]) for row in rows]
        newest: dict[tuple[str, int], Row] = {}
        for row in rows:
            before = newest.get(row[:2])
            if before is None or before[2] <= row[2]:
                newest[row[:2]] = row
        there = {} if new else self._there(table, list(newest))
        now = self._now(after=[stamp for _, stamp in there.values()])
        return [(row, now) for name, row in newest.items() if name not in there or there[name][0] <= row[2]]

    def _there(self, table: OnlineTable, wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        """Sequence and timestamp of the rows that are there, by key and event time."""
        look = self._statements.get(
            f'SELECT key_, at_, seq_, WRITETIME(seq_) FROM "{table.name}" '  # noqa: S608 - identifiers by whitelist
            "WHERE key_ IN ? AND at_ >= ? AND at_ <= ?",
            table,
        )
        by_time = sorted(wanted, key=lambda name: name[1])  # a look is at few rows, however many a key has
        parts = [by_time[start : start + AT_ONCE] for start in range(0, len(by_time), AT_ONCE)]
        looks = [(list({key for key, _ in part}), part[0][1], part[-1][1]) for part in parts]
        found = {}
        for future in [self._session.execute_async(look, asked) for asked in looks]:
            for key, at, sequence, stamp in future.result().current_rows:  # nothing is paged
                if sequence is not None:
                    found[key, at] = (sequence, stamp)
        return found

    @contextmanager
    def _only_writer(self, table: OnlineTable) -> Iterator[None]:
        """Nobody else writes to the table meanwhile: between a look and its write nothing may change."""
        with self._lock:
            lock = self._tables.setdefault(table.name, threading.Lock())
        with lock:
            yield

    def _now(self, *, after: Iterable[int]) -> int:
        """A timestamp in µs, greater than those and all before it: a clock may have been set back."""
        with self._lock:
            self._stamped = max(time.time_ns() // 1000, self._stamped + 1, *(stamp + 1 for stamp in after))
            return self._stamped


def _binder(prepared: Any) -> Callable[[Sequence[Any]], Any]:
    """Binds a value a column; the driver's own way looks each column up again, which takes it longer than the bytes."""
    kinds = [column.type.serialize for column in prepared.column_metadata]
    version = prepared.protocol_version

    def bind(values: Sequence[Any]) -> Any:
        bound = BoundStatement(prepared)
        bound.values = [None if v is None else as_bytes(v, version) for as_bytes, v in zip(kinds, values, strict=True)]
        return bound

    return bind


def _left_s(at: int, ttl_s: float | None) -> int | None:
    """Seconds that a row still lives; 0: for ever, None: it is gone already."""
    if ttl_s is None:
        return 0
    left = math.ceil(at / 1e6 + ttl_s - time.time())
    return min(left, _LONGEST_TTL_S) if left > 0 else None


def _full(stamped: Sequence[tuple[Row, int]], keep: int) -> Iterator[tuple[str, int, int]]:
    """Of each key that these rows fill by themselves: key, the oldest event time to keep, and the timestamp."""
    by_key: dict[str, list[tuple[int, int]]] = {}
    for row, stamp in stamped:
        by_key.setdefault(row[0], []).append((row[1], stamp))
    for key, of_key in by_key.items():
        newest = sorted(of_key, reverse=True)[:keep]
        if len(newest) == keep:
            yield key, newest[-1][0], max(stamp for _, stamp in of_key)
