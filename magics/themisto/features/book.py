"""The book of definitions on one machine: one JSON document in SQLite, changed in transactions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt

from themisto.errors import NotFound, did_you_mean
from themisto.features.models import Entity, FeatureView
from themisto.features.records import Freshness, Quarantine, RegisteredView, ServiceSpec, ViewData
from themisto.features.resolve import as_said
from themisto.types import Model, Sha256, utcnow

__all__ = ["Book", "BookFile", "change_book", "read_book", "there_are"]


class Book(Model):
    """All definitions; every version of a view and of a service is kept."""

    entities: dict[str, Entity] = Field(default_factory=dict)
    views: dict[str, list[RegisteredView]] = Field(default_factory=dict)
    services: dict[str, list[ServiceSpec]] = Field(default_factory=dict)
    online: dict[str, Freshness] = Field(default_factory=dict, description="by view")
    applied: dict[str, ViewData] = Field(default_factory=dict, description="by view: what came with its definition")
    pushed: dict[str, tuple[PositiveInt, ViewData]] = Field(
        default_factory=dict, description="by view: what was pushed, and into which version"
    )
    online_files: dict[str, Sha256] = Field(default_factory=dict, description="by view@version: what is online")
    erased: dict[str, list[Sha256]] = Field(default_factory=dict, description="by entity: keyed hashes of its keys")

    def newest(self, name: str) -> RegisteredView:
        """A view's newest version. Raises NotFound."""
        if not self.views.get(name):
            raise NotFound(f"There is no feature view '{name}'.", there_are(self.views, name))
        return self.views[name][-1]

    def as_said(self, spec: ServiceSpec) -> ServiceSpec:
        """A service with what its views say today."""
        return as_said(spec, lambda name, version: self.views[name][version - 1].view)

    def online_file(self, view: str, version: int) -> str | None:
        """The digest of the file that was last brought online into a version of a view."""
        return self.online_files.get(f"{view}@{version}")

    def freshness(self, view: FeatureView) -> Freshness:
        """How far this version of the view is online; what was online of another one is not read by a service on it."""
        found, version = self.online.get(view.name), view.version or 1
        return found if found and found.version == version else Freshness(view=view.name, version=version)

    def brought(self, view: FeatureView, data: ViewData, reached: datetime | None, entities: int) -> None:
        """A view's rows are online, up to `reached`."""
        before = self.freshness(view)
        times = [t for t in (reached, before.online_to) if t is not None]
        self.online[view.name] = Freshness(
            view=view.name,
            version=view.version or 1,
            offline_to=data.last_at,
            online_to=max(times, default=None),
            online_rows=max(entities, before.online_rows),
            materialized_at=utcnow(),
        )

    def reached(self, view: FeatureView, to: datetime | None) -> None:
        """What was pushed into a view is online, up to `to`."""
        before = self.freshness(view)
        times = [t for t in (to, before.online_to) if t is not None]
        self.online[view.name] = before.model_copy(update={"online_to": max(times, default=None)})

    def quarantine(self, sha256: str) -> Quarantine:
        """What is on record about a file of quarantined rows; of one that is not, nothing but its name."""
        unknown = Quarantine(sha256=sha256, rows=1)
        return next((q for data in self._data() for q in data.quarantined if q.sha256 == sha256), unknown)

    def apart(self) -> set[str]:
        """The digests of all files of quarantined rows."""
        return {q.sha256 for data in self._data() for q in data.quarantined}

    def cleared(self, view: str, sha256: Collection[str]) -> None:
        """The online store has been freed of a view's quarantined rows, whichever layer they came with."""
        self._change(lambda name, data: data.cleared(sha256) if name == view else data)

    def rewrite(self, became: Mapping[str, ViewData], apart: Mapping[str, Quarantine | None]) -> None:
        """Put files that were written anew in the places of those with the digests that they had.

        became: files of rows. apart: files of quarantined ones, None where no row is left.
        """

        def now(name: str, data: ViewData) -> ViewData:
            quarantined = [apart.get(q.sha256, q) for q in data.quarantined]
            whole = became.get(data.sha256, data)
            return whole.model_copy(
                update={
                    "rules": data.rules,
                    "written_at": data.written_at,
                    "left_out": data.left_out,
                    "quarantined": tuple(q for q in quarantined if q is not None),
                }
            )

        self._change(now)
        for name, sha256 in self.online_files.items():
            self.online_files[name] = became[sha256].sha256 if sha256 in became else sha256

    def _data(self) -> Iterator[ViewData]:
        yield from (r.data for versions in self.views.values() for r in versions if r.data)
        yield from self.applied.values()
        yield from (data for _, data in self.pushed.values())

    def _change(self, change: Callable[[str, ViewData], ViewData]) -> None:
        """Change what is on record about files of rows, by the view's name, wherever it is."""
        for name, versions in self.views.items():
            versions[:] = [r.model_copy(update={"data": change(name, r.data)}) if r.data else r for r in versions]
        for name, data in self.applied.items():
            self.applied[name] = change(name, data)
        for name, (version, data) in self.pushed.items():
            self.pushed[name] = version, change(name, data)


class BookFile:
    """The book below a folder, kept in memory: read again once another connection has changed it, or the file.

    What it gives is shared by all who read: nobody changes it, `change_book` changes one of its own.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._reading = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._seen: tuple[Any, ...] = ()
        self._book = Book()

    def read(self) -> Book:
        with self._reading:
            try:
                file = (self._home / "registry.db").stat()
            except FileNotFoundError:
                return read_book(self._home)
            if self._connection is None or self._seen[:2] != (file.st_dev, file.st_ino):
                if self._connection is not None:
                    self._connection.close()
                self._connection = _connected(self._home)
                self._seen = ()
            seen = file.st_dev, file.st_ino, self._connection.execute("PRAGMA data_version").fetchone()[0]
            if self._seen != seen:
                self._book = _read(self._connection)
                self._seen = seen
            return self._book


def read_book(home: Path) -> Book:
    """The book below a folder; an empty one where there is none."""
    with _opened(home) as con:
        return _read(con)


def change_book(home: Path, edit: Callable[[Book], None]) -> None:
    """Read, change and store the book in one transaction: two kernels wait for each other."""
    with _opened(home) as con:
        con.execute("BEGIN IMMEDIATE")
        book = _read(con)
        edit(book)
        con.execute("INSERT OR REPLACE INTO book VALUES (1, ?)", (book.model_dump_json(),))
        con.execute("COMMIT")


def there_are(names: Mapping[str, Any], asked: str) -> str:
    """What a NotFound says of the names there are, to one who asked for another."""
    if not names:
        return "None is registered yet: %features apply VAR."
    return did_you_mean(asked.partition("@")[0], names.keys() - {asked}, f"There are {', '.join(sorted(names))}.")


@contextmanager
def _opened(home: Path) -> Iterator[sqlite3.Connection]:
    home.mkdir(parents=True, exist_ok=True)
    con = _connected(home)
    try:
        yield con
    finally:
        con.close()


def _connected(home: Path) -> sqlite3.Connection:
    con = sqlite3.connect(home / "registry.db", timeout=10, isolation_level=None, check_same_thread=False)
    con.execute("CREATE TABLE IF NOT EXISTS book (id INTEGER PRIMARY KEY, content TEXT NOT NULL)")
    return con


def _read(con: sqlite3.Connection) -> Book:
    row = con.execute("SELECT content FROM book WHERE id = 1").fetchone()
    return Book.model_validate_json(row[0]) if row else Book()
