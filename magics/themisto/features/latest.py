"""From the offline to the online store: what of a view's file is to be written, and what is to go."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from themisto.features.columns import Column
from themisto.features.dtypes import micros
from themisto.features.models import FeatureView
from themisto.features.online import Row
from themisto.features.rowfile import has_columns, key_sql
from themisto.features.sources import quoted
from themisto.types import utcnow

if TYPE_CHECKING:
    import duckdb

__all__ = ["Latest", "fillable", "fits", "latest"]

_BATCH = 5000


class Latest:
    """The newest rows of a view's entities, against those that are online already; made by `latest`."""

    def __init__(self, con: duckdb.DuckDBPyConnection, view: FeatureView, written_at: datetime) -> None:
        self._con = con
        self._view = view
        self._written_at = micros(written_at)

    def __len__(self) -> int:
        """How many rows `rows` gives."""
        return int(self._con.execute("SELECT count(*) FROM out_").fetchall()[0][0])

    @property
    def entities(self) -> int:
        """How many entities there are, those without a change too."""
        return int(self._con.execute("SELECT count(DISTINCT key_) FROM new_").fetchall()[0][0])

    @property
    def reached(self) -> datetime | None:
        """The newest event time."""
        newest = self._con.execute("SELECT max(at_) FROM new_").fetchall()[0][0]
        return None if newest is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=newest)

    def gone(self) -> list[str]:
        """Keys with rows online that are no more, or are older now: erase them before writing."""
        return [row[0] for row in self._con.execute("SELECT key_ FROM gone_ ORDER BY key_").fetchall()]

    def rows(self, skip: int = 0) -> Iterator[tuple[list[Row], bool]]:
        """Batches of online rows, always in the same order; the first `skip` rows are left out.

        With each, whether its entities are new: none of them is known to be online. They come first.
        """
        own = self._view.created is not None or self._view.windows is not None
        chosen = ", ".join(
            ["key_", "at_", "seq_" if own else str(self._written_at), *(quoted(c.name) for c in _values(self._view))]
        )
        order, start = "there_, key_, at_ DESC", int(skip)
        new = int(self._con.execute("SELECT count(*) FROM out_ WHERE NOT there_").fetchall()[0][0]) - start
        if self._view.windows is not None:  # what they see moves on; tiles know an event that came before
            order, start, new = "key_, at_, seq_", 0, 0
        answer = self._con.execute(f"SELECT {chosen} FROM out_ ORDER BY {order} OFFSET {start}")  # noqa: S608
        while found := answer.fetchmany(min(new, _BATCH) if new > 0 else _BATCH):
            yield found, new > 0
            new -= len(found)


@contextmanager
def latest(
    view: FeatureView,
    path: Path,
    *,
    written_at: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    base: Path | None = None,
    first: bool = False,
) -> Iterator[Latest]:
    """Of each key the `online.keep` newest events with `since <= time <= until`, as far as they are not in `base`.

    Of a windowed view all events that a window can still see: the owner of the online store adds them to its tiles.
    An entity with events that are no more, or other ones, is written anew.

    path: the view's Parquet file, as `sources.write_parquet` makes it. Rows whose key is empty text
        stay offline.
    written_at: when these rows came in; the sequence of a view that knows no created time.
    base: the file that was brought online before; None, or one without the view's columns: all is to be written.
    first: nothing was ever brought.
    """
    import duckdb

    with duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        con.read_parquet(str(path)).create_view("file_")
        con.execute(f"CREATE VIEW events_ AS {_events(view, 'file_')}")
        con.execute(f"CREATE TABLE new_ AS {_newest(view, 'events_')}", {"since": since, "until": until})
        if base is None or not has_columns(view, base):
            con.execute("CREATE TABLE gone_ (key_ VARCHAR)")
            con.execute(f"CREATE VIEW out_ AS SELECT *, {not first} AS there_ FROM new_")  # noqa: S608 - true or false
        else:
            con.read_parquet(str(base)).create_view("base_")
            con.execute(f"CREATE VIEW were_ AS {_events(view, 'base_')}")
            con.execute(f"CREATE TABLE old_ AS {_newest(view, 'were_')}", {"since": None, "until": None})
            gone = "old_ ANTI JOIN events_ USING (key_, at_)"
            if view.windows is not None:
                gone = "(SELECT * FROM old_ EXCEPT SELECT * FROM new_)"
            con.execute(f"CREATE TABLE gone_ AS SELECT DISTINCT key_ FROM {gone}")  # noqa: S608 - one of the two
            con.execute(
                "CREATE TABLE changed_ AS SELECT new_.* FROM new_ SEMI JOIN gone_ USING (key_) "
                "UNION SELECT * FROM new_ EXCEPT SELECT * FROM old_ ANTI JOIN gone_ USING (key_)"
            )
            con.execute(
                "CREATE VIEW out_ AS SELECT *, key_ IN (SELECT key_ FROM old_ ANTI JOIN gone_ USING (key_)) AS there_ "
                "FROM changed_"
            )
        yield Latest(con, view, written_at)


def _events(view: FeatureView, rows: str) -> str:
    """Rows as they go online, one a key and event time: the one that was created last."""
    at = quoted(view.at)
    created = None if view.created is None else quoted(view.created)
    features = [
        f"epoch_us({quoted(f.name)}) AS {quoted(f.name)}" if f.dtype == "timestamp" else quoted(f.name)
        for f in _values(view)
    ]
    sequence = [] if created is None else [f"epoch_us({created}) AS seq_"]
    if view.windows is not None:
        sequence = [f"{'0' if view.windows.sequence is None else quoted(view.windows.sequence)} AS seq_"]
    chosen = ", ".join([f"{key_sql(view)} AS key_", f"epoch_us({at}) AS at_", *sequence, *features])
    named = [f"{quoted(k.name)} <> ''" for k in view.keys if k.dtype == "string"]
    events = f"SELECT {chosen} FROM {rows}{' WHERE ' + ' AND '.join(named) if named else ''}"  # noqa: S608 - quoted names
    if created is None or view.windows is not None:
        return events
    return f"SELECT DISTINCT ON (key_, at_) * FROM ({events}) ORDER BY key_, at_, seq_ DESC"  # noqa: S608


def _newest(view: FeatureView, events: str) -> str:
    newest = (
        f"QUALIFY row_number() OVER (PARTITION BY key_ ORDER BY at_ DESC) <= {view.online.keep}"
        if view.windows is None
        else f"AND at_ >= {micros(utcnow()) - view.windows.reach_us()}"
    )
    return (
        f"SELECT * FROM {events} WHERE ($since IS NULL OR at_ >= epoch_us($since::TIMESTAMPTZ)) "  # noqa: S608
        f"AND ($until IS NULL OR at_ <= epoch_us($until::TIMESTAMPTZ)) {newest}"
    )


def _values(view: FeatureView) -> Sequence[Column]:
    """What of a row goes online beside key, time and sequence."""
    return view.features if view.windows is None else view.windows.inputs


def fillable(versions: Sequence[FeatureView], pinned: Collection[int]) -> list[FeatureView]:
    """The versions of a view that its newest rows can keep fresh: the newest, and those that services pin.

    versions: all versions, oldest first. An older one is filled while its key, its time and the
    features it has are still there with their types.
    """
    newest = versions[-1]
    return [v for v in versions if v is newest or (v.version in pinned and fits(newest, v))]


def fits(rows: FeatureView, view: FeatureView) -> bool:
    """Whether rows of one version of a view are rows of another: the same keys and times, and its features."""
    have = {(f.name, f.dtype) for f in rows.stored}
    return (
        [(k.name, k.dtype) for k in rows.keys] == [(k.name, k.dtype) for k in view.keys]
        and (rows.times, rows.identity) == (view.times, view.identity)
        and (rows.windows is None) == (view.windows is None)
        and have.issuperset((f.name, f.dtype) for f in view.stored)
    )
