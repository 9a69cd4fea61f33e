"""The online store on a cluster: Cassandra or ScyllaDB, one partition an entity, its newest event first.

Settings come with the URL: `cassandra://h1,h2:9042/keyspace?dc=dc1&consistency=LOCAL_QUORUM`; user and
password, where there are any, as `cassandra://user:password@…`. What was measured: protocol 5,
TCP_NODELAY, prepared IN without paging, unlogged batches of at most ten partitions.
"""

from __future__ import annotations

import math
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from themisto.errors import Invalid, MissingSetting, NotFound, Unavailable
from themisto.features.dtypes import Dtype
from themisto.features.online import OnlineTable, Row

__all__ = ["CassandraStore"]

_TYPES: dict[Dtype, str] = {
    "bool": "boolean",
    "int32": "int",
    "int64": "bigint",
    "float32": "float",
    "float64": "double",
    "string": "text",
    "timestamp": "bigint",  # microseconds: Cassandra's own timestamp ends at milliseconds
    "decimal": "decimal",
    "list[int64]": "frozen<list<bigint>>",
    "list[float32]": "frozen<list<float>>",
    "list[float64]": "frozen<list<double>>",
}
_AT_ONCE = 100  # keys in one IN
_BATCH = 10  # partitions in one unlogged batch: more draw warnings
_WINDOW = 64  # batches under way
_TIMEOUT_S = 10.0
_LONGEST_TTL_S = 630_720_000  # Cassandra's own: 20 years
_HOWS = 1000
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,47}")


class CassandraStore:
    """`OnlineStore` in one keyspace, which an operator has made with the replication she wants.

    A view's table is `PRIMARY KEY ((key_), at_)`, `at_` descending: a late event takes its place behind newer
    ones without a read before the write. The sequence is the cells' timestamp (`USING TIMESTAMP`): of two rows
    of one event time the one with the greater sequence wins on every replica. What `keep` does not need any
    more is removed with the write that makes it so; a late event's row may stay until the next write.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        keyspace: str,
        *,
        port: int = 9042,
        dc: str | None = None,
        consistency: str = "LOCAL_QUORUM",
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        try:
            from cassandra import ConsistencyLevel
            from cassandra.auth import PlainTextAuthProvider
            from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
            from cassandra.policies import DCAwareRoundRobinPolicy, RoundRobinPolicy, TokenAwarePolicy
            from cassandra.query import tuple_factory
        except ImportError:
            raise MissingSetting("cassandra:// needs its driver.", "pip install 'themisto[cassandra]'.") from None
        if not _IDENTIFIER.fullmatch(keyspace) or consistency not in ConsistencyLevel.name_to_value:
            raise Invalid(f"'{keyspace}' or '{consistency}' cannot be used.", "See cassandra://host/keyspace?dc=….")
        near = DCAwareRoundRobinPolicy(local_dc=dc) if dc else RoundRobinPolicy()
        profile = ExecutionProfile(
            load_balancing_policy=TokenAwarePolicy(near),
            consistency_level=ConsistencyLevel.name_to_value[consistency],
            request_timeout=_TIMEOUT_S,
            row_factory=tuple_factory,
        )
        self._cluster = Cluster(
            list(hosts),
            port=port,
            protocol_version=5,
            connect_timeout=_TIMEOUT_S,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            auth_provider=PlainTextAuthProvider(user, password) if user else None,
            sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        with _ours():
            self._session = self._cluster.connect(keyspace)
        self._prepared: dict[tuple[str, str | None], Any] = {}
        self._preparing = threading.Lock()
        self._hows: dict[int, _How] = {}

    @classmethod
    def from_url(cls, url: str) -> CassandraStore:
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        names = [h.partition(":") for h in hosts.split(",")]
        options = {k: v[-1] for k, v in parse_qs(parts.query).items()}
        unknown = sorted(options.keys() - {"dc", "consistency"})
        if unknown or not all(n[0] for n in names):
            raise Invalid(
                f"The URL of the online store has {', '.join(unknown) or 'no host'}.", "It takes dc, consistency."
            )
        return cls(
            [n[0] for n in names],
            parts.path.strip("/"),
            port=int(names[0][2] or 9042),
            dc=options.get("dc"),
            consistency=options.get("consistency", "LOCAL_QUORUM"),
            user=unquote(user) or None,
            password=unquote(password) or None,
        )

    def ensure(self, table: OnlineTable) -> None:
        columns = "".join(f', "{c.name}" {_TYPES[c.dtype]}' for c in table.columns)
        compaction = f"{{'class': '{table.online.compaction or 'UnifiedCompactionStrategy'}'}}"
        with _ours():
            self._session.execute(
                f'CREATE TABLE IF NOT EXISTS "{table.name}" (key_ text, at_ bigint, seq_ bigint{columns}, '
                f"PRIMARY KEY ((key_), at_)) WITH CLUSTERING ORDER BY (at_ DESC) AND compaction = {compaction}"
            )
            if table.online.compaction and self._compaction(table.name) != table.online.compaction:
                self._session.execute(f'ALTER TABLE "{table.name}" WITH compaction = {compaction}')

    def _compaction(self, table: str) -> str:
        rows = self._session.execute(
            "SELECT compaction FROM system_schema.tables WHERE keyspace_name = %s AND table_name = %s",
            (self._session.keyspace, table),
        )
        return str(rows.one()[0]["class"]).rpartition(".")[2]

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
            try:
                rows = self._session.execute(self._how(table).of_one, (keys[0], 1)).current_rows
            except Exception as error:
                raise _told(error) from error
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
    try:
        yield
    except Exception as error:
        raise _told(error) from error


def _told(error: Exception) -> Exception:
    """The driver's errors as ours; any other as it is."""
    from cassandra import DriverException, InvalidRequest, RequestExecutionException
    from cassandra.cluster import NoHostAvailable

    if isinstance(error, InvalidRequest):
        if "unconfigured table" in str(error) or ("table" in str(error) and "does not exist" in str(error)):
            return NotFound("This view has no online rows yet.", "Run %features materialize VIEW.")
        return Unavailable(f"The online store refused a statement: {error}.", "Check its keyspace.")
    if isinstance(error, DriverException | RequestExecutionException | NoHostAvailable):
        return Unavailable(f"The online store does not answer: {error}.", "Try again in a moment.")
    return error
