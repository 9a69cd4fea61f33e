"""Callers: who was answered by which endpoints, counted in the prediction log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from themisto_hub.gateway.predictions import hour_folder

__all__ = ["Count", "count_callers"]

_COUNT = """
    SELECT caller, endpoint, count(*), max(epoch_us(time)) FROM read_parquet(?)
    WHERE endpoint IN (SELECT unnest(?)) AND epoch_us(time) >= ? AND release IS NOT NULL GROUP BY ALL
"""


class Count(NamedTuple):
    """One caller of one endpoint."""

    caller: str | None
    endpoint: str
    answers: int
    last: datetime


def count_callers(folder: Path, endpoints: Sequence[str], since: datetime) -> list[Count]:
    """Requests since then that a release answered; `folder` is `state/gateway/predictions`, newest caller first.

    Raises OSError and duckdb.Error where the log cannot be read.
    """
    import duckdb

    oldest = hour_folder(since.astimezone(UTC))
    hours = [h for h in folder.iterdir() if h.is_dir() and h.name >= oldest] if folder.is_dir() else []
    files = [str(f) for hour in hours for f in hour.glob("*.parquet") if not f.name.startswith(".")]
    if not files:
        return []
    with duckdb.connect(":memory:") as connection:
        rows = connection.execute(_COUNT, [files, list(endpoints), int(since.timestamp() * 1e6)]).fetchall()
    found = [Count(who, name, answers, datetime.fromtimestamp(last / 1e6, UTC)) for who, name, answers, last in rows]
    return sorted(found, key=lambda one: one.last, reverse=True)
