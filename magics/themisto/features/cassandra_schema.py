"""Tables of the online store in Cassandra: made, widened, never narrowed and never dropped by a definition."""

from __future__ import annotations

import time
from typing import Any

from themisto.errors import Conflict, Refused, Unavailable
from themisto.features.cassandra_session import ours
from themisto.features.dtypes import Dtype
from themisto.features.online import OnlineTable

__all__ = ["claim", "ensure"]

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
_ANOTHER_REPLICA = "10ms"  # a coordinator's wait for a replica, also for one that died and is not known to have
_CASSANDRAS_OWN = {"99p", "99percentile", "99.0percentile"}
_CHUNK_KB = 4  # a read decompresses a whole chunk for its row; ScyllaDB's own, which has another word for `class`
_CASSANDRAS_CHUNK_KB = "16"
_KNOWN_S = 5.0
_MARKER = "themisto_keyspace"
_OF_EVERY_TABLE = {"key_", "at_", "seq_"}


def claim(session: Any) -> None:
    """See that the keyspace is ours; an empty one becomes it. Raises Refused for one with tables of others."""
    with ours():
        tables: dict[str, set[str]] = {}
        rows = session.execute(
            "SELECT table_name, column_name FROM system_schema.columns WHERE keyspace_name = %s", (session.keyspace,)
        )
        for table, column in rows:
            tables.setdefault(table, set()).add(column)
        if _MARKER in tables:
            return
        foreign = sorted(name for name, columns in tables.items() if not columns >= _OF_EVERY_TABLE)
        if foreign:
            raise Refused(
                f"The keyspace '{session.keyspace}' is not themisto's: it holds {', '.join(foreign[:3])}.",
                "Give the online store a keyspace of its own.",
            )
        _change(
            session,
            f'CREATE TABLE IF NOT EXISTS "{_MARKER}" (made_by text PRIMARY KEY) '
            "WITH comment = 'This keyspace belongs to the online store of themisto'",
        )


def ensure(session: Any, table: OnlineTable) -> None:
    """Make the table, or add to it what it lacks: a column that no definition names any more stays.

    Raises Conflict where a column is there with another type: that is a new version of the view.
    """
    columns = {c.name: _TYPES[c.dtype] for c in table.columns}
    said = "".join(f', "{name}" {kind}' for name, kind in columns.items())
    compaction = f"{{'class': '{table.online.compaction or 'UnifiedCompactionStrategy'}'}}"
    with ours():
        there = _columns(session, table.name)
        if not there:
            _change(
                session,
                f'CREATE TABLE IF NOT EXISTS "{table.name}" (key_ text, at_ bigint, seq_ bigint{said}, '
                f"PRIMARY KEY ((key_), at_)) WITH CLUSTERING ORDER BY (at_ DESC) AND compaction = {compaction} "
                f"AND speculative_retry = '{_ANOTHER_REPLICA}'",
            )
            there = _columns(session, table.name)
        if not there.keys() >= _OF_EVERY_TABLE:
            raise Conflict(
                f"The keyspace '{session.keyspace}' has a table {table.name} that is not themisto's.",
                "Give the online store a keyspace of its own.",
            )
        _same_types(table, columns, there)
        for name in columns.keys() - there.keys():
            _add(session, table, name, columns)
        _bring_options(session, table, compaction)


def _bring_options(session: Any, table: OnlineTable, compaction: str) -> None:
    """What the view says, and ours where Cassandra's own still stands: what an operator has set stays."""
    rows = session.execute(
        "SELECT compaction, speculative_retry, compression FROM system_schema.tables "
        "WHERE keyspace_name = %s AND table_name = %s",
        (session.keyspace, table.name),
    )
    kept_by, another_replica, compression = rows.one()
    wanted = []
    if table.online.compaction and str(kept_by["class"]).rpartition(".")[2] != table.online.compaction:
        wanted.append(f"compaction = {compaction}")
    if str(another_replica).lower() in _CASSANDRAS_OWN:
        wanted.append(f"speculative_retry = '{_ANOTHER_REPLICA}'")
    if compression.get("chunk_length_in_kb") == _CASSANDRAS_CHUNK_KB and "class" in compression:
        kind = str(compression["class"]).rpartition(".")[2]
        wanted.append(f"compression = {{'class': '{kind}', 'chunk_length_in_kb': {_CHUNK_KB}}}")
    if wanted:
        _change(session, f'ALTER TABLE "{table.name}" WITH {" AND ".join(wanted)}')


def _add(session: Any, table: OnlineTable, name: str, columns: dict[str, str]) -> None:
    from cassandra import InvalidRequest

    try:
        _change(session, f'ALTER TABLE "{table.name}" ADD "{name}" {columns[name]}')
    except InvalidRequest:  # another process was first: as good, if it said the same
        until = time.monotonic() + _KNOWN_S
        while name not in (there := _columns(session, table.name)):  # the node that is asked may know it later
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        _same_types(table, columns, there)


def _same_types(table: OnlineTable, columns: dict[str, str], there: dict[str, str]) -> None:
    for name, kind in columns.items():
        if there.get(name, kind) != kind:
            raise Conflict(
                f"'{name}' of {table.name} is {there[name]} in the online store, and would become {kind}.",
                "A feature that changes its type makes a new version of its view: %features apply.",
            )


def _change(session: Any, cql: str) -> None:
    """Run a change of the schema; the driver waits until all nodes that are up know it."""
    result = session.execute(cql)
    if not result.response_future.is_schema_agreed:
        raise Unavailable("The nodes of the online store disagree on its schema.", "See nodetool describecluster.")


def _columns(session: Any, table: str) -> dict[str, str]:
    rows = session.execute(
        "SELECT column_name, type FROM system_schema.columns WHERE keyspace_name = %s AND table_name = %s",
        (session.keyspace, table),
    )
    return dict(rows)
