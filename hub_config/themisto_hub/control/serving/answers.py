"""Answers: the prediction log's new rows of two releases, each file read once.

The log itself is the memory: after a restart it is read again from the step's start, and nothing that was
counted is lost or counted twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from themisto_hub.control.serving.votes import Answer, Arm
from themisto_hub.gateway.predictions import hour_folder, made_of

__all__ = ["AnswerLog", "Rewritten"]

_WHOLE = "hour.parquet"
_LOOK_BACK = timedelta(hours=24)
_AT_A_TIME = 10_000
# The shares chose a release also where it did not answer and something else did in its place. Files of
# earlier versions lack some columns: the empty second half has them.
_ANSWERS = """
    SELECT epoch_us(time), coalesce(chosen, release) AS title, key, protocol, status, flags, fallback, latency_ms,
           outputs
    FROM (SELECT * FROM read_parquet($files, union_by_name => true)
          UNION ALL BY NAME SELECT NULL::VARCHAR AS chosen, NULL::VARCHAR AS fallback WHERE false)
    WHERE endpoint = $endpoint AND list_contains($titles, title)
"""
_SINCE = f"{_ANSWERS} AND epoch_us(time) >= $moment"
_BEFORE = f"{_ANSWERS} AND epoch_us(time) < $moment ORDER BY time DESC LIMIT $limit"

Mark = tuple[int, int]


class Rewritten(Exception):
    """A file that was read has changed: its rows must be counted anew, from the step's start."""


class AnswerLog:
    """Answers of `candidate` and `stable` (as `credit@7`) since `since`, from `state/gateway/predictions`."""

    def __init__(self, folder: Path, endpoint: str, *, candidate: str, stable: str, since: datetime) -> None:
        self._folder = folder
        self._endpoint = endpoint
        self._titles = [candidate, stable]
        self._since = since
        self._counted: dict[Path, Mark | None] = {}
        """Parts whose rows were given; None for those that came inside their hour's one file."""
        self._wholes: dict[Path, Mark] = {}

    def new(self) -> Iterator[Answer]:
        """Rows of the files that have come since the last call, as they were logged; to be taken to the end.

        Raises Rewritten; OSError and duckdb.Error where the log cannot be read.
        """
        counted, wholes = dict(self._counted), dict(self._wholes)
        files = [file for hour in self._hours(self._since) for file in _fresh(hour, counted, wholes)]
        yield from self._rows(_SINCE, files, self._titles)
        self._counted, self._wholes = counted, wholes

    def before(self, limit: int) -> list[Answer]:
        """Stable's newest answers from before `since`, at most a day older."""
        found: list[Answer] = []
        for hour in reversed(self._hours(self._since - _LOOK_BACK)):
            if hour.name <= hour_folder(self._since) and len(found) < limit:
                files, more = _fresh(hour, {}, {}), limit - len(found)
                found += self._rows(_BEFORE, files, self._titles[1:], limit=more)
        return found

    def _hours(self, since: datetime) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(h for h in self._folder.iterdir() if h.name >= hour_folder(since) and h.is_dir())

    def _rows(self, query: str, files: Sequence[Path], titles: Sequence[str], **more: int) -> Iterator[Answer]:
        if not files:
            return
        import duckdb

        with duckdb.connect(":memory:") as connection:
            names, moment = [str(file) for file in files], int(self._since.timestamp() * 1e6)
            given = {"files": names, "endpoint": self._endpoint, "titles": list(titles), "moment": moment, **more}
            answer = connection.execute(query, given)
            while rows := answer.fetchmany(_AT_A_TIME):
                for micros, title, *rest in rows:
                    arm: Arm = "candidate" if title == self._titles[0] else "stable"
                    yield Answer(datetime.fromtimestamp(micros / 1e6, UTC), arm, *rest)


def _fresh(hour: Path, counted: dict[Path, Mark | None], wholes: dict[Path, Mark]) -> list[Path]:
    """Files of an hour to read now, noted in `counted` and `wholes`. Raises Rewritten.

    An hour that is over becomes one file that names the parts it was made of; for a moment both are there.
    """
    marks = {file: _mark(file) for file in hour.glob("*.parquet") if not file.name.startswith(".")}
    fresh: list[Path] = []
    whole = hour / _WHOLE
    mark = marks.pop(whole, None)
    if mark is not None and wholes.get(whole) != mark:
        inside = {hour / name for name in made_of(whole)}
        before = {part for part in counted if part.parent == hour}
        if not before:
            fresh.append(whole)
            counted.update(dict.fromkeys(inside))
        elif not inside <= before:
            raise Rewritten(str(whole))
        wholes[whole] = mark
    for part in sorted(marks.keys() - counted.keys()):
        fresh.append(part)
        counted[part] = marks[part]
    if any(counted[part] not in (None, marks[part]) for part in marks):
        raise Rewritten(str(hour))
    return fresh


def _mark(file: Path) -> Mark:
    """Size and time: a writer that was cut short writes its last file again, with more rows."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns
