"""The online store on a cluster: Cassandra or ScyllaDB, one partition an entity, its newest event first.

Settings come with the URL (`cassandra_settings`). What was measured: protocol 5,
TCP_NODELAY, prepared IN without paging, unlogged batches of at most ten partitions.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from themisto.errors import MissingSetting
from themisto.features.cassandra_settings import AT_ONCE, CassandraSettings
from themisto.features.online import OnlineTable, Row

__all__ = ["CassandraStore"]

_HOWS = 1000


class CassandraStore:
    """`OnlineStore` in one keyspace, which an operator has made with the replication she wants.

    A view's table is `PRIMARY KEY ((key_), at_)`, `at_` descending: a late event takes its place behind newer
    ones. What `keep` does not need any more is removed with the write that makes it so; a late event's row may stay
    until the next write. How it is written: `cassandra_writing`.
    """

    def __init__(self, settings: CassandraSettings) -> None:
        try:
            from themisto.features import cassandra_schema, cassandra_session, cassandra_writing
        except ImportError:
            raise MissingSetting("cassandra:// needs its driver.", "pip install 'themisto[cassandra]'.") from None
        self._cluster, self._session = cassandra_session.connect(settings)
        self._statements = cassandra_session.Statements(self._session)
        self._writer = cassandra_writing.Writer(self._session, self._statements)
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
        return self._writer.write(table, rows, new=new)

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
            of_one = self._statements.get(f"{start}= ? LIMIT ?", table)
            known = _How(table, of_one, self._statements.get(f"{start}IN ? PER PARTITION LIMIT ?", table))
            if len(self._hows) >= _HOWS:
                self._hows.clear()
            self._hows[id(table)] = known
        return known

    def erase(self, table: OnlineTable, keys: Sequence[str]) -> None:
        self._writer.erase(table, keys)

    def drop(self, table: OnlineTable) -> None:
        with _ours():
            self._session.execute(f'DROP TABLE IF EXISTS "{table.name}"')
        self._statements.forget(table)
        self._hows.clear()

    def close(self) -> None:
        self._cluster.shutdown()


class _How(NamedTuple):
    table: OnlineTable
    of_one: Any
    of_many: Any

    def asked(self, keys: Sequence[str], count: int) -> list[tuple[Any, tuple[Any, ...]]]:
        """The requests for `count` rows a key: each a statement and its values."""
        distinct = list(dict.fromkeys(keys))
        if len(distinct) == 1:
            return [(self.of_one, (distinct[0], count))]
        parts = [distinct[i : i + AT_ONCE] for i in range(0, len(distinct), AT_ONCE)]
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


@contextmanager
def _ours() -> Iterator[None]:
    from themisto.features.cassandra_session import ours

    with ours():
        yield
