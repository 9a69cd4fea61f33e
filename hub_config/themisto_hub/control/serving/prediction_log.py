"""Prediction log: the Parquet files that the gateway's log writer keeps, read page by page, newest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, unquote

from themisto.errors import Invalid, Unavailable
from themisto_hub.gateway.predictions import hour_folder

__all__ = ["MAX_ROWS", "Only", "Page", "PredictionLog", "Rows"]

MAX_ROWS = 10_000
"""Requests in one page, at most."""

_MAX_BYTES = 32 * 2**20
_BATCH = 1024
_MEMORY = "512MB"
_COLUMNS = {
    "time": "TIMESTAMPTZ",
    "request_id": "VARCHAR",
    "caller": "VARCHAR",
    "endpoint": "VARCHAR",
    "release": "VARCHAR",
    "key": "VARCHAR",
    "entity": "BOOLEAN",
    "protocol": "VARCHAR",
    "path": "VARCHAR",
    "status": "INTEGER",
    "latency_ms": "DOUBLE",
    "flags": "VARCHAR",
    "inputs": "VARCHAR",
    "outputs": "VARCHAR",
    # Files of earlier versions lack these: they are null there.
    "shadow": "BOOLEAN",
    "chosen": "VARCHAR",
    "fallback": "VARCHAR",
    "feature_age_s": "DOUBLE",
    "trace_id": "VARCHAR",
}
_BODIES = ("inputs", "outputs")

Rows = Literal["answers", "pairs"]
"""`answers`: what callers got. `pairs`: of requests that a shadow answered too, both answers."""

Only = Literal["failures", "fallbacks"]
"""`failures`: requests without a good answer, whoever is to blame. `fallbacks`: answered in a release's place."""


class Page(NamedTuple):
    """Some requests (an Arrow table), and where the next page begins; None: there are no more."""

    table: Any
    next: str | None


class PredictionLog:
    """`state/gateway/predictions`: a folder an hour, Parquet files in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def nothing() -> Any:
        """A table without rows."""
        return _schema().empty_table()

    def pages(self, endpoint: str, *, limit: int, **which: Any) -> Iterator[Any]:
        """All tables, page after page, until `limit` requests; see `page`."""
        after: str | None = None
        while limit > 0:
            table, after = self.page(endpoint, after=after, limit=min(limit, MAX_ROWS), **which)
            if table.num_rows:
                yield table
            limit -= table.num_rows
            if after is None:
                return

    def page(
        self,
        endpoint: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        release: str | None = None,
        about: str | None = None,
        only: Only | None = None,
        rows: Rows = "answers",
        bodies: bool = True,
        limit: int = MAX_ROWS,
    ) -> Page:
        """Requests from `since` (included) to `until` (not included), newest first, at most `limit` and 32 MiB.

        release: `credit@7`, only its answers. about: also those that it should have given and did not.
        bodies: with inputs and outputs.
        Raises Invalid for an `after` that no page gave, Unavailable where the log cannot be read.
        """
        import duckdb
        import pyarrow as pa

        last = _Place.read(after) if after else None
        tables: list[Any] = []
        left, bytes_left = limit, _MAX_BYTES
        try:
            with duckdb.connect(":memory:", config={"memory_limit": _MEMORY, "threads": 1}) as connection:
                for hour, near in self._hours(since, until, last):
                    query, values = _query(
                        hour,
                        near,
                        endpoint,
                        since=since,
                        until=until,
                        last=last,
                        release=release,
                        about=about,
                        only=only,
                        rows=rows,
                    )
                    for table in _batches(connection, query, [*values, left]):
                        tables.append(table)
                        left -= table.num_rows
                        bytes_left -= table.nbytes
                        if bytes_left <= 0:
                            break
                    if left <= 0 or bytes_left <= 0:
                        break
        except (OSError, duckdb.Error) as error:
            raise Unavailable(
                "The prediction log cannot be read.", "Tell the platform team, or try again in a moment."
            ) from error
        found = pa.concat_tables(tables) if tables else self.nothing()
        full = bool(tables) and (left <= 0 or bytes_left <= 0)
        place = str(_Place.of(found)) if full else None
        return Page(found if bodies else found.drop_columns(list(_BODIES)), place)

    def _hours(
        self, since: datetime | None, until: datetime | None, last: _Place | None
    ) -> Iterator[tuple[list[str], list[str]]]:
        """Files of each hour that may hold what is asked for, newest first, and those of its neighbours."""
        named = sorted((h for h in self._folder.iterdir() if h.is_dir()), reverse=True) if self._folder.is_dir() else []
        first = hour_folder(since.astimezone(UTC)) if since else ""
        ends = [hour_folder(until.astimezone(UTC))] if until else []
        ends += [hour_folder(datetime.fromtimestamp(last.time_us / 1e6, UTC))] if last else []
        for at, folder in enumerate(named):
            if folder.name < first or any(folder.name > end for end in ends):
                continue
            files = _files(folder)
            if files:
                yield files, [f for near in named[max(0, at - 1) : at + 2] for f in _files(near)]


class _Place(NamedTuple):
    """Where a page ended: the order of the log is by time, whether it is a shadow's answer, and request id."""

    time_us: int
    shadow: int
    request_id: str

    def __str__(self) -> str:
        return f"{self.time_us}.{self.shadow}.{quote(self.request_id, safe='')}"  # a caller chose it: it is data

    @classmethod
    def read(cls, text: str) -> _Place:
        time_us, _, rest = text.partition(".")
        shadow, _, request_id = rest.partition(".")
        if not (time_us.isascii() and time_us.isdigit()) or len(time_us) > 17 or shadow not in ("0", "1"):
            raise Invalid("This is no place in the log.", "Give what the page before said in x-next.")
        return cls(int(time_us), int(shadow), unquote(request_id))

    @classmethod
    def of(cls, table: Any) -> _Place:
        """The last line of `table`."""
        end = table.slice(table.num_rows - 1).to_pylist()[0]
        moment: datetime = end["time"]
        micros = int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond
        return cls(micros, int(bool(end["shadow"])), end["request_id"] or "")


def _files(folder: Path) -> list[str]:
    return sorted(str(f) for f in folder.glob("*.parquet") if not f.name.startswith("."))


def _query(
    files: Sequence[str],
    near: Sequence[str],
    endpoint: str,
    *,
    since: datetime | None,
    until: datetime | None,
    last: _Place | None,
    release: str | None,
    about: str | None,
    only: Only | None,
    rows: Rows,
) -> tuple[str, list[Any]]:
    """SQL with a `?` for all that is data; its last one is the limit."""
    where = ["endpoint = ?"]
    values: list[Any] = [list(files), endpoint]
    for sign, moment in ((">=", since), ("<", until)):
        if moment is not None:
            where.append(f"epoch_us(time) {sign} ?")
            values.append(int(moment.timestamp() * 1_000_000))
    if last is not None:
        where.append("(epoch_us(time), coalesce(shadow, false)::INTEGER, coalesce(request_id, '')) < (?, ?, ?)")
        values += list(last)
    if release is not None:
        where.append("release = ?")
        values.append(release)
    if about is not None:
        where.append("(release = ? OR chosen = ?)")
        values += [about, about]
    if only is not None:
        where.append(_ONLY[only])
    if rows == "answers":
        where.append("NOT coalesce(shadow, false)")
    else:
        where.append(_SHADOWED)
        values += [list(near), endpoint]
    order = "time DESC, coalesce(shadow, false) DESC, coalesce(request_id, '') DESC"
    names = ", ".join(_COLUMNS)
    return f"SELECT {names} FROM ({_SOURCE}) WHERE {' AND '.join(where)} ORDER BY {order} LIMIT ?", values  # noqa: S608 - made of our own words; data are parameters


_NOTHING = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _COLUMNS.items())
_FILES = "SELECT * FROM read_parquet(?, union_by_name = true)"
_SOURCE = f"{_FILES} UNION ALL BY NAME SELECT * FROM (SELECT {_NOTHING}) WHERE false"  # noqa: S608 - our own words
_SHADOWED = f"request_id IN (SELECT request_id FROM ({_SOURCE}) WHERE endpoint = ? AND shadow)"  # noqa: S608 - the same

_GOOD = "CASE protocol WHEN 'grpc' THEN status = 0 ELSE status BETWEEN 200 AND 299 END"
_ONLY: dict[Only, str] = {"failures": f"NOT coalesce({_GOOD}, false)", "fallbacks": "fallback IS NOT NULL"}


def _batches(connection: Any, query: str, values: list[Any]) -> Iterator[Any]:
    import pyarrow as pa

    for batch in connection.sql(query, params=values).to_arrow_reader(_BATCH):
        yield pa.Table.from_batches([batch]).cast(_schema())


def _schema() -> Any:
    import pyarrow as pa

    kinds: dict[str, pa.DataType] = {
        "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
        "VARCHAR": pa.string(),
        "INTEGER": pa.int32(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
    }
    return pa.schema({name: kinds[kind] for name, kind in _COLUMNS.items()})
