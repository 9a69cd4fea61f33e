"""The online store on a cluster: Cassandra or ScyllaDB, one partition an entity, its newest event first.

Settings come with the URL (`cassandra_settings`). What was measured: protocol 5,
TCP_NODELAY, prepared IN without paging, unlogged batches of at most ten partitions.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, NamedTuple

from themisto.errors import Invalid, MissingSetting
from themisto.features.cassandra_settings import CassandraSettings
from themisto.features.online import OnlineTable, Row

__all__ = ["CassandraStore"]

_AT_ONCE = 100  # keys in one IN
_CHUNK = 2000  # rows that one look is for
_BATCH = 10  # partitions in one unlogged batch: more draw warnings
_WINDOW = 64  # batches under way
_LONGEST_TTL_S = 630_720_000  # Cassandra's own: 20 years
_HOWS = 1000


class CassandraStore:
    """`OnlineStore` in one keyspace, which an operator has made with the replication she wants.

    A view's table is `PRIMARY KEY ((key_), at_)`, `at_` descending: a late event takes its place behind newer
    ones. The cells' timestamp is the time of the write, so that what is written after an erasure is there whatever
    its sequence. Of two rows of one event time the one with the greater sequence wins: this, the only process that
    writes, looks before it writes. What `keep` does not need any more is removed with the write that makes it so.
    New entities cost neither a look nor a tombstone; a late event's row may stay until the next write.
    """

    def __init__(self, settings: CassandraSettings) -> None:
        try:
            from themisto.features import cassandra_schema, cassandra_session
        except ImportError:
            raise MissingSetting("cassandra:// needs its driver.", "pip install 'themisto[cassandra]'.") from None
        self._cluster, self._session = cassandra_session.connect(settings)
        self._prepared: dict[tuple[str, str | None], Any] = {}
        self._preparing = threading.Lock()
        self._writing: dict[str, threading.Lock] = {}
        self._stamped = 0
        self._hows: dict[int, _How] = {}
        try:
            cassandra_schema.claim(self._session)
        except BaseException:
            self._cluster.shutdown()
            raise

    @classmethod
    def from_url(cls, url: str) -> CassandraStore:
        return cls(CassandraSettings.from_url(url))

    def ensure(self, table: OnlineTable) -> None:
        from themisto.features import cassandra_schema

        cassandra_schema.ensure(self._session, table)

    def prepare(self, table: OnlineTable) -> None:
        """Both ways of reading, prepared on every node and gone once: the first read of a caller finds them warm."""
        self.history(table, ["\x00"], 1)
        self.history(table, ["\x00", "\x01"], 1)

    def write(self, table: OnlineTable, rows: Iterable[Row], *, new: bool = False) -> int:
        width = len(table.columns) + 3
        count, source = 0, iter(rows)
        self._insert(table)  # a table that was never made is told even where there is nothing to write
        while chunk := list(islice(source, _CHUNK)):
            if any(len(row) != width for row in chunk):  # the driver accepts too few silently
                raise Invalid(f"Not all rows have {width} values.", "Materialize the view again.")
            with self._only_writer(table), _ours():
                self._send(table, self._stamps(table, chunk, new=new), trim=not new)
            count += len(chunk)
        return count

    def _insert(self, table: OnlineTable) -> Any:
        names = ", ".join(["key_", "at_", "seq_", *(f'"{c.name}"' for c in table.columns)])
        return self._prepare(
            f'INSERT INTO "{table.name}" ({names}) '  # noqa: S608 - identifiers by whitelist
            f"VALUES ({', '.join('?' * (len(table.columns) + 3))}) USING TIMESTAMP ? AND TTL ?",
            table,
        )

    def _send(self, table: OnlineTable, stamped: Sequence[tuple[Row, int]], *, trim: bool) -> None:
        from cassandra.query import BatchStatement, BatchType

        from themisto.features.cassandra_session import WRITES

        insert = self._insert(table)
        remove = self._prepare(
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
        look = self._prepare(
            f'SELECT key_, at_, seq_, WRITETIME(seq_) FROM "{table.name}" '  # noqa: S608 - identifiers by whitelist
            "WHERE key_ IN ? AND at_ >= ? AND at_ <= ?",
            table,
        )
        by_time = sorted(wanted, key=lambda name: name[1])  # a look is at few rows, however many a key has
        parts = [by_time[start : start + _AT_ONCE] for start in range(0, len(by_time), _AT_ONCE)]
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
        with self._preparing:
            lock = self._writing.setdefault(table.name, threading.Lock())
        with lock:
            yield

    def _now(self, *, after: Iterable[int]) -> int:
        """A timestamp in µs, greater than those and all before it: a clock may have been set back."""
        with self._preparing:
            self._stamped = max(time.time_ns() // 1000, self._stamped + 1, *(stamp + 1 for stamp in after))
            return self._stamped

    def read(self, table: OnlineTable, keys: Sequence[str]) -> list[Row | None]:
        if len(keys) == 1:
            with _ours():
                rows = self._session.execute(self._how(table).of_one, (keys[0], 1)).current_rows
            return [rows[0] if rows and rows[0][2] is not None else None]
        return [rows[0] if rows else None for rows in self.history(table, keys, 1)]

    def read_async(self, table: OnlineTable, keys: Sequence[str]) -> Future[list[Row | None]] | None:
        how = self._hows.get(id(table))
        if how is None or how.table is not table:  # to prepare a statement is to wait for the node
            return None
        arriving = _Arriving(keys)
        with _ours():
            arriving.wait_for([self._session.execute_async(*asked) for asked in how.asked(keys, 1)])
        return arriving.answer

    def history(self, table: OnlineTable, keys: Sequence[str], count: int) -> list[list[Row]]:
        how = self._how(table)
        found: dict[str, list[Row]] = {}
        with _ours():
            for future in [self._session.execute_async(*asked) for asked in how.asked(keys, count)]:
                _sort(future.result().current_rows, found)  # nothing is paged
        return [found.get(key, []) for key in keys]

    def _how(self, table: OnlineTable) -> _How:
        """The statements that read a table, by its identity: to compare tables costs more than to decode a row."""
        known = self._hows.get(id(table))
        if known is None or known.table is not table:
            names = ", ".join(["key_", "at_", "seq_", *(f'"{c.name}"' for c in table.columns)])
            start = f'SELECT {names} FROM "{table.name}" WHERE key_ '  # noqa: S608 - identifiers by whitelist
            of_one = self._prepare(f"{start}= ? LIMIT ?", table)
            known = _How(table, of_one, self._prepare(f"{start}IN ? PER PARTITION LIMIT ?", table))
            if len(self._hows) >= _HOWS:
                self._hows.clear()
            self._hows[id(table)] = known
        return known

    def erase(self, table: OnlineTable, keys: Sequence[str]) -> None:
        from themisto.features.cassandra_session import WRITES

        look = self._prepare(
            f'SELECT MAX(WRITETIME(seq_)) FROM "{table.name}" WHERE key_ = ?',  # noqa: S608 - identifiers by whitelist
            table,
        )
        remove = self._prepare(
            f'DELETE FROM "{table.name}" USING TIMESTAMP ? WHERE key_ = ?',  # noqa: S608 - as above
            table,
        )
        with self._only_writer(table), _ours():
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                looks = [self._session.execute_async(look, (key,)) for key in some]
                now = self._now(after=[stamp for found in looks for (stamp,) in found.result() if stamp is not None])
                under_way = [self._session.execute_async(remove, (now, key), execution_profile=WRITES) for key in some]
                for future in under_way:
                    future.result()

    def drop(self, table: OnlineTable) -> None:
        with _ours():
            self._session.execute(f'DROP TABLE IF EXISTS "{table.name}"')
        with self._preparing:
            self._prepared = {k: p for k, p in self._prepared.items() if f'"{table.name}"' not in k[0]}
            self._hows.clear()

    def close(self) -> None:
        self._cluster.shutdown()

    def _prepare(self, cql: str, table: OnlineTable) -> Any:
        wanted = (cql, table.online.consistency)
        found = self._prepared.get(wanted)
        if found is None:
            from cassandra import ConsistencyLevel

            from themisto.features.cassandra_session import prepare

            with self._preparing, _ours():
                found = prepare(self._session, cql)
                found.is_idempotent = True  # a write has its timestamp: what is asked twice is done once
                found.fetch_size = None  # paging an IN costs half of its time
                if table.online.consistency is not None:
                    found.consistency_level = ConsistencyLevel.name_to_value[table.online.consistency]
                self._prepared[wanted] = found
        return found


class _How(NamedTuple):
    table: OnlineTable
    of_one: Any
    of_many: Any

    def asked(self, keys: Sequence[str], count: int) -> list[tuple[Any, tuple[Any, ...]]]:
        """The requests for `count` rows a key: each a statement and its values."""
        distinct = list(dict.fromkeys(keys))
        if len(distinct) == 1:
            return [(self.of_one, (distinct[0], count))]
        parts = [distinct[i : i + _AT_ONCE] for i in range(0, len(distinct), _AT_ONCE)]
        return [(self.of_many, (part, count)) for part in parts]


class _Arriving:
    """One answer of several requests; the first that fails is the answer. Called by the driver's threads."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.answer: Future[list[Row | None]] = Future()
        self._keys = keys
        self._found: dict[str, list[Row]] = {}
        self._lock = threading.Lock()
        self._missing = 0

    def wait_for(self, requests: Sequence[Any]) -> None:
        self._missing = len(requests)
        if not requests:
            self.answer.set_result([])
        for request in requests:
            request.add_callbacks(self._arrived, self._failed)

    def _arrived(self, rows: Sequence[Row]) -> None:
        with self._lock:
            _sort(rows, self._found)
            self._missing -= 1
            if self._missing:
                return
        found = [self._found.get(key) for key in self._keys]
        with suppress(InvalidStateError):  # nobody waits any more
            self.answer.set_result([rows[0] if rows else None for rows in found])

    def _failed(self, error: Exception) -> None:
        from themisto.features.cassandra_session import as_ours

        with suppress(InvalidStateError):
            self.answer.set_exception(as_ours(error))


def _sort(rows: Iterable[Row], found: dict[str, list[Row]]) -> None:
    """Rows behind those of their key; one that was only ever partly written is none."""
    for row in rows:
        if row[2] is not None:
            found.setdefault(row[0], []).append(row)


def _binder(prepared: Any) -> Callable[[Sequence[Any]], Any]:
    """Binds a value a column; the driver's own way looks each column up again, which takes it longer than the bytes."""
    from cassandra.query import BoundStatement

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


@contextmanager
def _ours() -> Iterator[None]:
    from themisto.features.cassandra_session import ours

    with ours():
        yield
