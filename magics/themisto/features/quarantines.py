"""Quarantines of many pushes as one file, which is bounded: bad rows that come one by one would leave a file each."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from themisto.features.judging import REASON, quarantine_file
from themisto.features.models import FeatureView
from themisto.features.records import Quarantine, ViewData
from themisto.features.rowfile import digest_file
from themisto.features.sources import quoted

__all__ = ["MOST_ROWS", "together"]

MOST_ROWS = 100_000
"""Rows that are kept of all pushes that were not as expected."""
_REASONS = 20


def together(view: FeatureView, folder: Path, data: ViewData) -> ViewData:
    """The same with its quarantines in one file; those of which the online store is not freed yet stay in their own.

    A row that was kept apart several times for one reason is there once. Of more than `MOST_ROWS` rows those stay that
    came in last (later files), and of the others those of the newest event time; the rest is counted as left out. The
    files before stay, for who reads them.
    """
    import duckdb

    freed = [q for q in data.quarantined if q.cleared]
    if len(freed) < 2:
        return data
    names = ", ".join(quoted(n) for n in (*(k.name for k in view.keys), *view.times, *(c.name for c in view.stored)))
    by = ", ".join(map(quoted, view.identity))
    with tempfile.TemporaryDirectory(prefix="judging-", dir=folder) as drafts, duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        for i, each in enumerate(freed):
            con.read_parquet(str(quarantine_file(folder, each))).create_view(f"part{i}")
        parts = " UNION ALL ".join(f"SELECT {names}, {REASON}, {i} AS _part FROM part{i}" for i in range(len(freed)))  # noqa: S608
        con.execute(f"CREATE TABLE all_ AS SELECT {names}, {REASON}, max(_part) AS _part FROM ({parts}) GROUP BY ALL")  # noqa: S608
        con.execute(
            f"CREATE TABLE rows_ AS SELECT {names}, {REASON} FROM all_ "  # noqa: S608 - quoted names
            f"ORDER BY _part DESC, {quoted(view.at)} DESC, {by}, {REASON} LIMIT {MOST_ROWS}"
        )
        draft = Path(drafts) / "bad"
        to = str(draft).replace("'", "''")
        con.execute(
            f"COPY (SELECT * FROM rows_ ORDER BY {by}, {REASON}) TO '{to}' (FORMAT parquet, COMPRESSION zstd)"  # noqa: S608 - quoted names
        )
        counted = con.execute(
            f"SELECT said, count(*) FROM (SELECT unnest(string_split({REASON}, '; ')) AS said FROM rows_) "  # noqa: S608
            f"GROUP BY said ORDER BY count(*) DESC, said LIMIT {_REASONS}"
        ).fetchall()
        came, rows = con.execute("SELECT (SELECT count(*) FROM all_), (SELECT count(*) FROM rows_)").fetchall()[0]
        whole = Quarantine(sha256=digest_file(draft), rows=rows, reasons=dict(counted), cleared=True)
        draft.replace(quarantine_file(folder, whole))
    left_out = Counter(data.left_out) + Counter({f"the quarantine keeps {MOST_ROWS:,} rows": came - rows})
    apart = (*(q for q in data.quarantined if not q.cleared), whole)
    return data.model_copy(update={"quarantined": apart, "left_out": dict(left_out)})
