"""The control plane's database: one engine, transactions that say whether they write, migrations."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from sqlalchemy import DateTime, Dialect, Engine, MetaData, create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import TypeDecorator

from themisto.errors import Invalid, Unavailable
from themisto.types import utcnow

__all__ = ["Base", "Database", "UtcDateTime"]

_WRITES = "themisto_writes"


class Base(DeclarativeBase):
    """Parent of all tables. Names of constraints are fixed, so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class UtcDateTime(TypeDecorator[datetime]):
    """A timezone-aware UTC moment on every database; a naive one is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime: use themisto.types.utcnow()")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Database:
    """An engine whose transactions are either `read()` or `write()`.

    On SQLite a writer takes its lock at once (BEGIN IMMEDIATE), so that two writers wait for each
    other instead of failing half-way.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._sqlite = make_url(url).get_backend_name() == "sqlite"
        connect_args: dict[str, Any] = {"timeout": 30} if self._sqlite else {}
        self.engine = create_engine(_with_driver(url), connect_args=connect_args, pool_pre_ping=not self._sqlite)
        if self._sqlite:
            _tune_sqlite(self.engine)

    @property
    def is_sqlite(self) -> bool:
        return self._sqlite

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one consistent state; what it changes is thrown away."""
        with self._session(writes=False) as session:
            yield session
            session.rollback()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: all of it is stored, or nothing."""
        with self._session(writes=True) as session, session.begin():
            yield session

    @contextmanager
    def _session(self, *, writes: bool) -> Iterator[Session]:
        engine = self.engine.execution_options(**{_WRITES: writes})
        try:
            with Session(engine, expire_on_commit=False) as session:
                yield session
        except DataError as error:  # PostgreSQL keeps no NUL in a text, no number over its column's size
            raise Invalid(
                "The database cannot keep a value of this request.",
                "Send texts without NUL, shorter ones, or smaller numbers; nothing was changed.",
            ) from error
        except OperationalError as error:
            raise Unavailable(
                f"The control plane's database does not answer: {error.orig}.",
                "Nothing was changed; run the same command again in a moment.",
            ) from error

    def migrate(self) -> None:
        """Bring the schema to the newest revision, after a copy of a SQLite file that has one already."""
        from alembic import command
        from alembic.config import Config
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(resources.files("themisto_hub.control") / "migrations"))
        head = ScriptDirectory.from_config(config).get_current_head()
        with self.engine.begin() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
            if current == head:
                return
            if current is not None or inspect(connection).get_table_names():
                self._back_up(current or "unversioned")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def _back_up(self, revision: str) -> None:
        file = make_url(self.url).database
        if self._sqlite and file and Path(file).exists():
            shutil.copy2(file, f"{file}.before-{revision}-{utcnow():%Y%m%dT%H%M%SZ}")

    def close(self) -> None:
        self.engine.dispose()


def _with_driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1) if url.startswith("postgresql://") else url


def _tune_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions behind our back
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # an audit event survives a power cut
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        writes = connection.get_execution_options().get(_WRITES, True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
