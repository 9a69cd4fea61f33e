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
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

from themisto.errors import Invalid, MissingSetting
from themisto.features.cassandra_settings import CassandraSettings
from themisto.features.online import OnlineTable, Row

__all__ = ["CassandraStore"]

_AT_ONCE = 50  # keys in one IN: a node reads those of one request one after the other
_BATCH = 10  # partitions in one unlogged batch: more draw warnings
_WINDOW = 64  # batches under way
_LONGEST_TTL_S = 630_720_000  # Cassandra's own: 20 years
_HOWS = 1000


class CassandraStore:
    """`OnlineStore` in one keyspace, which an operator has made with the replication she wants.

    A view's table is `PRIMARY KEY ((key_), at_)`, `at_` descending: a late event takes its place behind newer
    ones without a read before the write. The sequence is the cells' timestamp (`USING TIMESTAMP`): of two rows
    of one event time the one with the greater sequence wins on every replica. What `keep` does not need any
    more is removed with the write that makes it so; a late event's row may stay until the next write.
    """

    def __init__(self, settings: CassandraSettings) -> None:
        try:
            from themisto.features import cassandra_schema, cassandra_session
        except ImportError:
            raise MissingSetting("cassandra:// needs its driver.", "pip install 'themisto[cassandra]'.") from None
        self._cluster, self._session = cassandra_session.connect(settings)
        self._prepared: dict[tuple[str, str | None], Any] = {}
        self._preparing = threading.Lock()
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

    def write(self, table: OnlineTable, rows: Iterable[Row]) -> int:
        from cassandra.query import BatchStatement, BatchType

        names = ", ".join(["key_", "at_", "seq_", *(f'"{c.name}"' for c in table.columns)])
        width = len(table.columns) + 3
        insert = self._prepare(
            f'INSERT INTO "{table.name}" ({names}) '  # noqa: S608 - identifiers by whitelist
            f"VALUES ({', '.join('?' * width)}) USING TIMESTAMP ? AND TTL ?",
            table,
        )
        trim = self._prepare(
            f'DELETE FROM "{table.name}" USING TIMESTAMP ? WHERE key_ = ? AND at_ < ?',  # noqa: S608 - as above
            table,
        )
        inserted, trimmed = _binder(insert), _binder(trim)
        count, source = 0, iter(rows)
        under_way: deque[Any] = deque()
        with _ours():
            while part := list(islice(source, _BATCH)):
                batch = BatchStatement(BatchType.UNLOGGED, consistency_level=insert.consistency_level)
                for row in part:
                    if len(row) != width:  # the driver accepts too few silently
                        raise Invalid(f"A row of {len(row)} values for {width} columns.", "Materialize the view again.")
                    left = _left_s(row[1], table.online.ttl_s)
                    if left is not None:
                        batch.add(inserted((*row, row[2], left)))
                for key, at, sequence in _full(part, table.online.keep):
                    batch.add(trimmed((sequence, key, at)))
                if len(batch):
                    under_way.append(self._session.execute_async(batch))
                if len(under_way) >= _WINDOW:
                    under_way.popleft().result()
                count += len(part)
            for future in under_way:
                future.result()
        return count

    def read(self, table: OnlineTable, keys: Sequence[str]) -> list[Row | None]:
        if len(keys) == 1:
            with _ours():
                rows = self._session.execute(self._how(table).of_one, (keys[0], 1)).current_rows
            return [rows[0] if rows and rows[0][2] is not None else None]
        return [rows[0] if rows else None for rows in self.history(table, keys, 1)]

    def history(self, table: OnlineTable, keys: Sequence[str], count: int) -> list[list[Row]]:
        how = self._how(table)
        asked: list[tuple[Any, ...]]
        distinct = list(dict.fromkeys(keys))
        if len(distinct) == 1:
            statement, asked = how.of_one, [(distinct[0], count)]
        else:
            statement = how.of_many
            asked = [(distinct[i : i + _AT_ONCE], count) for i in range(0, len(distinct), _AT_ONCE)]
        found: dict[str, list[Row]] = {}
        with _ours():
            for future in [self._session.execute_async(statement, values) for values in asked]:
                for row in future.result().current_rows:  # nothing is paged
                    if row[2] is not None:
                        found.setdefault(row[0], []).append(row)
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
        statement = self._prepare(
            f'DELETE FROM "{table.name}" USING TIMESTAMP ? WHERE key_ = ?',  # noqa: S608 - identifiers by whitelist
            table,
        )
        now = time.time_ns() // 1000
        with _ours():
            for future in [self._session.execute_async(statement, (now, key)) for key in keys]:
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

            with self._preparing, _ours():
                found = self._session.prepare(cql)
                found.is_idempotent = cql.startswith("SELECT")  # what speculation may ask twice
                found.fetch_size = None  # paging an IN costs half of its time
                if table.online.consistency is not None:
                    found.consistency_level = ConsistencyLevel.name_to_value[table.online.consistency]
                self._prepared[wanted] = found
        return found


class _How(NamedTuple):
    table: OnlineTable
    of_one: Any
    of_many: Any


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


def _full(rows: Sequence[Row], keep: int) -> Iterator[tuple[str, int, int]]:
    """Of each key that `rows` fill by themselves: key, the oldest event time to keep, and the sequence."""
    by_key: dict[str, list[Row]] = {}
    for row in rows:
        by_key.setdefault(row[0], []).append(row)
    for key, of_key in by_key.items():
        newest = sorted(of_key, key=lambda row: row[1], reverse=True)[:keep]
        if len(newest) == keep:
            yield key, newest[-1][1], max(row[2] for row in of_key)


@contextmanager
def _ours() -> Iterator[None]:
    from themisto.features.cassandra_session import ours

    with ours():
        yield
