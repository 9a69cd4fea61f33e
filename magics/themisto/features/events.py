"""Events of a windowed view, on their way into its Parquet file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from themisto.errors import Invalid
from themisto.features.columns import quoted
from themisto.features.models import FeatureView
from themisto.features.windows import MAX_EVENTS, Windows

if TYPE_CHECKING:
    import duckdb


__all__ = ["bucket", "check_events"]


def bucket(moment: str, every_us: int) -> str:
    """SQL for the beginning of a moment's bucket, in microseconds; before 1970 too."""
    us = f"epoch_us({moment})"
    return f"({us} - ({us} % {every_us} + {every_us}) % {every_us})"


def check_events(con: duckdb.DuckDBPyConnection, view: FeatureView) -> None:
    """Raises Invalid where `rows_` has events that one name means, or more in a bucket than tiles hold."""
    windows = _windows(view)
    by, at = ", ".join(map(quoted, view.identity)), quoted(view.at)
    content = ", ".join([by, *(quoted(c.name) for c in windows.inputs)])
    row = con.execute(
        f"SELECT count(*) FROM (SELECT {by} FROM (SELECT DISTINCT {content} FROM rows_ WHERE {at} IS NOT NULL) "  # noqa: S608 - quoted names, here and below
        f"GROUP BY ALL HAVING count(*) > 1)"
    ).fetchone()
    if row and row[0]:
        columns = ", ".join(view.identity)
        raise Invalid(
            f"'{view.name}' has {row[0]} times different events of one {columns}.",
            "Name the column that numbers them: sequence=.",
        )
    keys = ", ".join(quoted(k.name) for k in view.keys)
    most = con.execute(
        f"SELECT max(n) FROM (SELECT count(DISTINCT ({by})) AS n FROM rows_ "  # noqa: S608
        f"GROUP BY {keys}, {bucket(at, windows.every_us)} HAVING count(*) > {MAX_EVENTS})"
    ).fetchone()
    if most and most[0] and most[0] > MAX_EVENTS:
        raise Invalid(
            f"'{view.name}' has {most[0]} events of one entity in a bucket of {windows.every_s} s; "
            f"it may have {MAX_EVENTS}.",
            "Choose a shorter every=.",
        )


def _windows(view: FeatureView) -> Windows:
    assert view.windows is not None
    return view.windows
