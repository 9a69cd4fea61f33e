"""The online store: the newest row of each entity, read in well under a millisecond."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

from themisto.errors import Invalid
from themisto.features.layout import SLACK, Layout
from themisto.features.models import Column, FeatureView, Online
from themisto.features.windows import Windows
from themisto.types import Identifier, Model

__all__ = [
    "GROUP",
    "AsyncReads",
    "OnlineStore",
    "OnlineTable",
    "Row",
    "encode_key",
    "key_text",
    "open_store",
    "table_name",
]

GROUP = "themisto.online_stores"
_LAYOUT = 2

Row = tuple[Any, ...]
"""`(key, event time, sequence, one value a column)`.

Key as `encode_key` gives it; event time in microseconds since 1970. Of two rows with one key and event time the
one with the greater sequence counts: the created time in microseconds, or when the rows were written.
Timestamps are microseconds, decimals `Decimal`, lists lists of numbers; any value may be None.
"""


class OnlineTable(Model):
    """One version of one group's view, and how it is kept.

    windows: of a windowed view; its rows are tiles then, and what is sent to them are events (see `tiles`).
    """

    name: Identifier
    columns: tuple[Column, ...]
    online: Online = Online()
    windows: Windows | None = None

    @property
    def sent(self) -> tuple[Column, ...]:
        """The columns of what is sent to it, behind key, time and sequence."""
        return self.columns if self.windows is None else self.windows.inputs

    @classmethod
    def of(cls, view: FeatureView, group: str) -> OnlineTable:
        name = table_name(group, view.name, view.version or 1)
        if view.windows is not None:
            return cls.of_tiles(name, view.windows, view.online)
        columns = tuple(Column(name=f.name, dtype=f.dtype) for f in view.features)
        return cls(name=name, columns=columns, online=view.online)

    @classmethod
    def of_tiles(cls, name: str, windows: Windows, online: Online) -> OnlineTable:
        """The tiles of a windowed view, each kept as long as a window may reach."""
        reach_s = windows.reach_us() // 1_000_000
        kept = online.model_copy(
            update={"keep": reach_s // windows.every_s + SLACK, "ttl_s": reach_s + windows.every_s}
        )
        return cls(name=name, columns=Layout(windows).columns, online=kept, windows=windows)


class OnlineStore(Protocol):
    """Keeps the newest rows of each entity; every implementation passes the contract suite in the tests.

    - `ensure` makes the table, or brings one that is there to what `online` says; nothing is ever dropped.
    - `prepare` makes ready what the first read would wait for; it may do nothing.
    - `write` keeps for each key the `online.keep` newest rows by event time, at least: a late event never hides
      a newer one, whatever the order of arrival. Of rows of one event time the one with the greatest sequence
      stays, of equal ones the last. Writing the same row again changes nothing. A row is gone
      `online.ttl_s` after its event time. With `new`, no row of these keys is known to be there: there is nothing
      to make room for, and a store may save itself the trouble.
    - `read` answers in the order of `keys`, None where there is no row; keys may repeat, and there
      may be any number of them. A read sees every write that has returned.
    - `history` gives up to `count` rows a key, the newest first.
    - `erase` removes all rows of the keys; what is written afterwards is there again, whatever its sequence.
    - A float that is no number (NaN) may come back as None.
    - A table that was never made raises NotFound; a store that does not answer, Unavailable.
    - Methods may be called from any thread. Only the owner process opens the store.
    """

    def ensure(self, table: OnlineTable) -> None: ...

    def prepare(self, table: OnlineTable) -> None: ...

    def write(self, table: OnlineTable, rows: Iterable[Row], *, new: bool = False) -> int:
        """Returns how many rows were sent."""
        ...

    def read(self, table: OnlineTable, keys: Sequence[str]) -> list[Row | None]: ...

    def history(self, table: OnlineTable, keys: Sequence[str], count: int) -> list[list[Row]]: ...

    def erase(self, table: OnlineTable, keys: Sequence[str]) -> None: ...

    def drop(self, table: OnlineTable) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class AsyncReads(Protocol):
    """What a store behind a network may do besides: read while no thread waits."""

    def read_async(self, table: OnlineTable, keys: Sequence[str]) -> Future[list[Row | None]] | None:
        """`OnlineStore.read`, its answer or error to come; None where it had to wait before it asks: `read` then."""
        ...


def table_name(group: str, view: str, version: int) -> str:
    """The table of a group's view: readable, an identifier, one a (group, view, version) and layout of the rows."""
    digest = hashlib.sha256(f"{_LAYOUT}/{group}/{view}/{version}".encode()).hexdigest()[:8]
    return f"{view[:30]}_v{version}_{digest}"


def encode_key(columns: Sequence[Column], values: Sequence[Any]) -> str:
    """The values of an entity's keys as one text: itself for one key, else length-prefixed parts.

    Raises Invalid for a value that is not of the key's type, and for empty text: no store has a row for it.

    >>> encode_key([Column(name="origin", dtype="string")], ["JFK"])
    'JFK'
    """
    if len(columns) == 1 == len(values):
        return key_text(columns[0], values[0])
    parts = [key_text(c, v) for c, v in zip(columns, values, strict=True)]
    return "".join(f"{len(p)}:{p}" for p in parts)


def key_text(column: Column, value: Any) -> str:
    """One key as text. Raises Invalid as `encode_key`."""
    dtype = column.dtype
    if dtype == "string":
        if isinstance(value, str) and value:
            return value
    elif dtype == "bool":
        if isinstance(value, bool):
            return "1" if value else "0"
    elif dtype.startswith("int") and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise Invalid(
        f"The key '{column.name}' is {column.dtype}; {str(value)[:60]!r} is none.", "Send it with its own type."
    )


def open_store(url: str) -> OnlineStore:
    """The store behind a URL: `sqlite:///path`, `cassandra://h1,h2/keyspace?dc=…&consistency=LOCAL_QUORUM`, or
    a scheme that another package names in the entry points `themisto.online_stores`.

    Raises Invalid for a scheme that nobody knows.
    """
    scheme = urlsplit(url).scheme
    for entry in entry_points(group=GROUP):
        if entry.name == scheme:
            store: OnlineStore = entry.load().from_url(url)
            return store
    known = ", ".join(sorted(f"{entry.name}://" for entry in entry_points(group=GROUP)))
    raise Invalid(f"'{scheme}://' is no online store.", f"There are {known}.")
