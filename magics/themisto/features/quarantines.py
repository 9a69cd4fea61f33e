"""Quarantines of many pushes as one file: bad rows that come one by one would leave a file each."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from themisto.features.judging import REASON, quarantine_file
from themisto.features.models import FeatureView
from themisto.features.records import Quarantine
from themisto.features.rowfile import digest_file
from themisto.features.sources import quoted

__all__ = ["together"]

_REASONS = 20


def together(view: FeatureView, folder: Path, quarantined: Sequence[Quarantine]) -> tuple[Quarantine, ...]:
    """The same rows in one file; those of which the online store is not freed yet stay in their own.

    A row that was kept apart several times for one reason is there once. The files before stay, for who reads them.
    """
    import duckdb

    freed = [q for q in quarantined if q.cleared]
    if len(freed) < 2:
        return tuple(quarantined)
    names = ", ".join(quoted(n) for n in (*(k.name for k in view.keys), *view.times, *(c.name for c in view.stored)))
    by = ", ".join(map(quoted, view.identity))
    with tempfile.TemporaryDirectory(prefix="judging-", dir=folder) as drafts, duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        for i, each in enumerate(freed):
            con.read_parquet(str(quarantine_file(folder, each))).create_view(f"part{i}")
        parts = " UNION ".join(f"SELECT {names}, {REASON} FROM part{i}" for i in range(len(freed)))  # noqa: S608
        con.execute(f"CREATE TABLE rows_ AS {parts}")
        draft = Path(drafts) / "bad"
        to = str(draft).replace("'", "''")
        con.execute(
            f"COPY (SELECT * FROM rows_ ORDER BY {by}, {REASON}) TO '{to}' (FORMAT parquet, COMPRESSION zstd)"  # noqa: S608 - quoted names
        )
        counted = con.execute(
            f"SELECT said, count(*) FROM (SELECT unnest(string_split({REASON}, '; ')) AS said FROM rows_) "  # noqa: S608
            f"GROUP BY said ORDER BY count(*) DESC, said LIMIT {_REASONS}"
        ).fetchall()
        rows = con.execute("SELECT count(*) FROM rows_").fetchall()[0][0]
        whole = Quarantine(sha256=digest_file(draft), rows=rows, reasons=dict(counted), cleared=True)
        draft.replace(quarantine_file(folder, whole))
    return (*(q for q in quarantined if not q.cleared), whole)
