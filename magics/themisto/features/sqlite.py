"""The online store on one machine: SQLite, one wide row an entity and event."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from themisto.errors import Conflict, NotFound, Unavailable
from themisto.features.dtypes import Dtype
from themisto.features.online import OnlineTable, Row

__all__ = ["SqliteStore"]

_TYPES: dict[Dtype, str] = {
    "bool": "INTEGER",
    "int32": "INTEGER",
    "int64": "INTEGER",
    "float32": "REAL",
    "float64": "REAL",
    "timestamp": "INTEGER",
}  # what is not named: TEXT
_HOWS = 1000
_OF_EVERY_TABLE = {"key_", "at_", "seq_", "until_"}
_OWN_FILE = "Give the online store a file of its own."
_AT_ONCE = 256  # keys in one statement
_BATCH = 5000  # rows in one transaction: readers never wait, other writers wait milliseconds


class SqliteStore:
    """`OnlineStore` in one file, write-ahead logged: readers and the writer do not wait for each other.

    One table a view: `key_, at_` (the primary key), `seq_`, `until_` (when the row is gone) and the features.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = str(path)
        if self._path != ":memory:":
            Path(self._path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._writer = self._connect()
        self._reader = self._connect()
        self._cursor = self._reader.cursor()
        self._hows: dict[int, _How] = {}

    @classmethod
    def from_url(cls, url: str) -> SqliteStore:
        return cls(url.removeprefix("sqlite:///"))

    def _connect(self) -> sqlite3.Connection:
        with _ours("opened"):
            con = sqlite3.connect(self._path, timeout=10, isolation_level=None, check_same_thread=False)
            con.execute("PRAGMA journal_mode=WAL")
            con.execute("PRAGMA synchronous=NORMAL")  # after a power cut materialize again: offline has it all
            con.execute("PRAGMA mmap_size=268435456")
            return con

    def ensure(self, table: OnlineTable) -> None:
        columns = "".join(f', "{c.name}" {_TYPES.get(c.dtype, "TEXT")}' for c in table.columns)
        with self._changing():
            self._writer.execute(
                f'CREATE TABLE IF NOT EXISTS "{table.name}" (key_ TEXT NOT NULL, at_ INTEGER NOT NULL, '
                f"seq_ INTEGER NOT NULL, until_ INTEGER{columns}, PRIMARY KEY (key_, at_)) WITHOUT ROWID"
            )
            self._fit(table)

    def _fit(self, table: OnlineTable) -> None:
        """Add to a table what it lacks. Raises Conflict where it is another's, or a column has another type."""
        there = {name: kind for _, name, kind, *_ in self._writer.execute(f'PRAGMA table_info("{table.name}")')}
        if not there.keys() >= _OF_EVERY_TABLE:
            raise Conflict(f"The online store has a table {table.name} that is not ours.", _OWN_FILE)
        for column in table.columns:
            kind = _TYPES.get(column.dtype, "TEXT")
            if column.name not in there:
                self._writer.execute(f'ALTER TABLE "{table.name}" ADD "{column.name}" {kind}')
            elif there[column.name] != kind:
                raise Conflict(
                    f"'{column.name}' of {table.name} is {there[column.name]} in the online store, not {kind}.",
                    "A feature that changes its type makes a new version of its view: %features apply.",
                )

    def prepare(self, table: OnlineTable) -> None:
        """Nothing to do: a file is open."""

    def write(self, table: OnlineTable, rows: Iterable[Row], *, new: bool = False) -> int:
        names = ["key_", "at_", "seq_", *(f'"{c.name}"' for c in table.columns), "until_"]
        update = ", ".join(f"{n} = excluded.{n}" for n in names[2:])
        insert = (
            f'INSERT INTO "{table.name}" ({", ".join(names)}) '  # noqa: S608 - identifiers by whitelist
            f"VALUES ({', '.join('?' * len(names))}) "
            f"ON CONFLICT (key_, at_) DO UPDATE SET {update} WHERE excluded.seq_ >= seq_"
        )
        trim = (
            f'DELETE FROM "{table.name}" WHERE key_ = ?1 AND at_ < '  # noqa: S608 - identifiers by whitelist
            f'(SELECT at_ FROM "{table.name}" WHERE key_ = ?1 ORDER BY at_ DESC LIMIT 1 OFFSET {table.online.keep - 1})'
        )
        expire = f'DELETE FROM "{table.name}" WHERE key_ = ? AND until_ <= ?'  # noqa: S608 - as above
        encoded, ttl = _Codec(table, to_store=True), table.online.ttl_s
        count, source = 0, iter(rows)
        while batch := list(islice(source, _BATCH)):
            held = [(*encoded(row), None if ttl is None else row[1] + round(ttl * 1e6)) for row in batch]
            with self._changing():
                self._writer.executemany(insert, held)
                keys = {row[0] for row in batch}
                if not new:
                    self._writer.executemany(trim, [(key,) for key in keys])
                if ttl is not None:
                    now = time.time_ns() // 1000
                    self._writer.executemany(expire, [(key, now) for key in keys])
            count += len(batch)
        return count

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction: all of it is there afterwards, or nothing."""
        with self._writing, _ours("written"):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:  # a full disk ends it by itself
                    self._writer.execute("ROLLBACK")
                raise

    def read(self, table: OnlineTable, keys: Sequence[str]) -> list[Row | None]:
        how = self._how(table)
        now = time.time_ns() // 1000
        try:
            with self._reading:
                if len(keys) == 1:
                    rows = self._cursor.execute(how.of_one, (keys[0], now, 1)).fetchall()
                    return [how.decoded(rows[0]) if rows else None]
                if table.online.keep == 1:  # one statement: each takes the file's lock anew
                    return self._newest(how, keys, now)
        except sqlite3.DatabaseError as error:
            raise _told(error, "read") from error
        return [rows[0] if rows else None for rows in self.history(table, keys, 1)]

    def _newest(self, how: _How, keys: Sequence[str], now: int) -> list[Row | None]:
        """The newest row of each key; a late event's may be there beside it until the next write."""
        found: dict[str, Row] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = list(keys[start : start + _AT_ONCE])
            width = 1 << (len(some) - 1).bit_length()  # few statements, so that all stay prepared
            asked = (now, *some, *some[-1:] * (width - len(some)))
            for row in self._cursor.execute(how.of_many(width), asked).fetchall():
                before = found.get(row[0])
                if before is None or row[1] > before[1]:
                    found[row[0]] = row
        if how.decoded.places:
            found = {key: how.decoded(row) for key, row in found.items()}
        return [found.get(key) for key in keys]

    def history(self, table: OnlineTable, keys: Sequence[str], count: int) -> list[list[Row]]:
        how = self._how(table)
        now = time.time_ns() // 1000
        found: dict[str, list[Row]] = {}
        try:
            with self._reading:
                self._cursor.execute("BEGIN")
                try:
                    for key in keys:
                        if key not in found:
                            found[key] = self._cursor.execute(how.of_one, (key, now, count)).fetchall()
                finally:
                    self._cursor.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise _told(error, "read") from error
        if how.decoded.places:
            found = {key: [how.decoded(row) for row in rows] for key, rows in found.items()}
        return [found[key] for key in keys]

    def _how(self, table: OnlineTable) -> _How:
        """By identity: a table is made once and read many times, and comparing it costs more than a read."""
        known = self._hows.get(id(table))
        if known is None or known.table is not table:
            if len(self._hows) >= _HOWS:
                self._hows.clear()
            known = self._hows[id(table)] = _How(table)
        return known

    def erase(self, table: OnlineTable, keys: Sequence[str]) -> None:
        with self._changing():
            self._writer.executemany(
                f'DELETE FROM "{table.name}" WHERE key_ = ?',  # noqa: S608 - identifiers by whitelist
                [(key,) for key in keys],
            )

    def drop(self, table: OnlineTable) -> None:
        with self._writing, _ours("written"):
            self._writer.execute(f'DROP TABLE IF EXISTS "{table.name}"')

    def close(self) -> None:
        with self._writing, self._reading:
            self._reader.close()
            self._writer.close()


class _How:
    """How one table is read: statements and decoder, made once."""

    def __init__(self, table: OnlineTable) -> None:
        self.table = table
        self.decoded = _Codec(table, to_store=False)
        names = ", ".join(["key_", "at_", "seq_", *(f'"{c.name}"' for c in table.columns)])
        lives = "(until_ IS NULL OR until_ > ?)"
        self.of_one = (
            f'SELECT {names} FROM "{table.name}" WHERE key_ = ? '  # noqa: S608 - identifiers by whitelist
            f"AND {lives} ORDER BY at_ DESC LIMIT ?"
        )
        self._of_many = f'SELECT {names} FROM "{table.name}" WHERE {lives} AND key_ IN'  # noqa: S608 - as above
        self._by_width: dict[int, str] = {}

    def of_many(self, width: int) -> str:
        if width not in self._by_width:
            self._by_width[width] = f"{self._of_many} ({', '.join('?' * width)})"
        return self._by_width[width]


class _Codec:
    """Rows to and from what SQLite keeps: decimals and lists are text there, bools numbers."""

    def __init__(self, table: OnlineTable, *, to_store: bool) -> None:
        kinds = _ENCODE if to_store else _DECODE
        self.places = [(i + 3, kinds[c.dtype]) for i, c in enumerate(table.columns) if c.dtype in kinds]

    def __call__(self, row: Row) -> Row:
        if not self.places:
            return row
        values = list(row)
        for i, convert in self.places:
            values[i] = None if values[i] is None else convert(values[i])
        return tuple(values)


_LISTS: tuple[Dtype, ...] = ("list[int64]", "list[float32]", "list[float64]")
_ENCODE: dict[Dtype, Callable[[Any], Any]] = {"decimal": str, **dict.fromkeys(_LISTS, json.dumps)}
_DECODE: dict[Dtype, Callable[[Any], Any]] = {"bool": bool, "decimal": Decimal, **dict.fromkeys(_LISTS, json.loads)}


@contextmanager
def _ours(what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _told(error, what) from error


_REMEDIES = {
    "locked": "Another process holds it; try again in a moment.",
    "readonly": "Let this user write to it and to its folder.",
    "unable to open": "Let this user read and write it and its folder.",
    "full": "Free some space on its disk; then materialize again.",
    "disk i/o": "See that its disk has room and is well; then materialize again.",
    "not a database": "The file is another program's: give the online store one of its own.",
    "malformed": "It is damaged: remove it, then %features materialize VIEW --full brings all rows back.",
}
"""What to do, by a word of SQLite's own message."""


def _told(error: sqlite3.DatabaseError, what: str) -> NotFound | Unavailable:
    said = str(error)
    if "no such table" in said:
        return NotFound("This view has no online rows yet.", "Run %features materialize VIEW.")
    remedies = [remedy for word, remedy in _REMEDIES.items() if word in said.lower()]
    return Unavailable(f"The online store cannot be {what}: {said}.", next(iter(remedies), "Try again in a moment."))
