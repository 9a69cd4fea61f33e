"""Tail: the access log, followed into Parquet. Every line comes in exactly once, whatever is cut short.

A Parquet file is named after the place in the log where it begins, so that reading from there again
replaces it. A log that has grown large or old is renamed, Envoy is told to open a new one, the old one is
read out and deleted. Where Parquet cannot keep pace (a full or slow disk), what has piled up beyond a bound
is given up and counted.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from themisto.types import Model, utcnow
from themisto_hub.gateway.bootstrap import ACCESS_LOG, ADMIN_SOCKET
from themisto_hub.gateway.feature_files import Watched
from themisto_hub.gateway.line import read_line
from themisto_hub.gateway.personal import DECLARED, Declared, Veil
from themisto_hub.gateway.predictions import (
    compact,
    hour_folder,
    losses,
    prediction,
    write_losses,
    write_parquet,
)

__all__ = ["FOLDER", "Behind", "Tail", "lag"]

FOLDER = "predictions"
_FLUSH_ROWS = 20_000
_FLUSH_S = 2.0
_CHUNK_BYTES = 8 * 2**20
_PAUSE_S = 0.25
_SWEEP_S = 60.0
_AFTER_FAILURE_S = 5.0
_HOUR = "%Y-%m-%dT%H"
_log = logging.getLogger(__name__)


class _Mark(Model):
    """How far the log is in Parquet. `generation` counts files: an inode may come back."""

    generation: int = 0
    inode: int = 0
    offset: int = 0
    failed_writes: int = 0
    """Envoy's, as last counted."""


class Behind(Model):
    """How far Parquet is behind the access log."""

    unread_bytes: int
    seconds: float
    """Since it was last written, while lines wait; the first line waits no longer than that."""


def lag(folder: Path) -> Behind:
    """How far the log in `folder` (`state/gateway`) is behind now. Raises OSError where it cannot be looked at."""
    mark_file = folder / f"{ACCESS_LOG}.mark"
    try:
        mark, since = _Mark.model_validate_json(mark_file.read_text()), mark_file.stat().st_mtime
    except (FileNotFoundError, ValueError):
        mark, since = _Mark(), time.time()
    unread = 0
    for name in (f"{ACCESS_LOG}.1", ACCESS_LOG):
        with suppress(FileNotFoundError):
            status = (folder / name).stat()
            unread += status.st_size - (mark.offset if status.st_ino == mark.inode else 0)
    unread = max(unread, 0)
    return Behind(unread_bytes=unread, seconds=max(0.0, time.time() - since) if unread else 0.0)


class Tail:
    """The access log in `folder`, followed."""

    def __init__(
        self,
        folder: Path,
        rotate_bytes: int = 64 * 2**20,
        keep: timedelta = timedelta(days=366),
        *,
        rotate_s: float = 300.0,
        backlog_bytes: int = 256 * 2**20,
        veil: Veil | None = None,
        declared: Path | None = None,
    ) -> None:
        self._raw = folder / ACCESS_LOG
        self._old = folder / f"{ACCESS_LOG}.1"
        self._mark_file = folder / f"{ACCESS_LOG}.mark"
        self._admin = folder / ADMIN_SOCKET
        self._parquet = folder / FOLDER
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._rotate_s = rotate_s
        self._backlog_bytes = backlog_bytes
        self._veil = veil or Veil(None, None)
        self._declared = Watched(declared or folder / DECLARED, Declared.model_validate_json, Declared())
        self._losses = losses(self._parquet)
        self._unreadable = 0
        self._opened = time.monotonic()
        self._mark = self._load()
        self._rows: list[dict[str, Any]] = []
        self._at = self._mark.offset
        self._flushed = time.monotonic()
        self._swept = 0.0

    def run(self, stop: threading.Event) -> None:
        """Follow until `stop`. What fails (a full disk) is logged and read again from the last mark."""
        while True:
            last = stop.is_set()
            try:
                self.step(flush=last)
            except OSError:
                _log.exception("the prediction log cannot be written; it is tried again")
                self._again()
                stop.wait(_AFTER_FAILURE_S)
            if last:
                return
            stop.wait(_PAUSE_S)

    def step(self, *, flush: bool = False) -> None:
        """Read what is new; write it when it is time; rotate and tidy up. Raises OSError."""
        if self._backlog() > self._backlog_bytes:
            self._give_up()
        source = self._source()
        if source is not None:
            at_end = self._take(source)
            due = time.monotonic() - self._flushed > _FLUSH_S or len(self._rows) >= _FLUSH_ROWS
            if due or flush or (at_end and source == self._old):
                self._flush()
            if at_end and not self._rows:
                self._rotate(source)
        if time.monotonic() - self._swept > _SWEEP_S:
            self._sweep()

    def _source(self) -> Path | None:
        """The file to read now: the rotated one until it is read out."""
        for path in (self._old, self._raw):
            with suppress(FileNotFoundError):
                status = path.stat()
                if status.st_ino != self._mark.inode or status.st_size < self._mark.offset:
                    self._again(0)
                    self._opened = time.monotonic()
                    self._save(
                        _Mark(
                            generation=self._mark.generation + 1,
                            inode=status.st_ino,
                            failed_writes=self._mark.failed_writes,
                        )
                    )
                return path
        return None

    def _again(self, at: int | None = None) -> None:
        """Forget what was read and not written: it is read once more, from the last mark."""
        self._rows, self._unreadable = [], 0
        self._at = self._mark.offset if at is None else at

    def _backlog(self) -> int:
        """Bytes of raw log that are not in Parquet yet."""
        sizes = 0
        for path in (self._old, self._raw):
            with suppress(FileNotFoundError):
                sizes += path.stat().st_size
        return sizes - self._mark.offset

    def _give_up(self) -> None:
        """Free the disk of the oldest lines, and count them; Envoy never waits."""
        if not self._old.exists():
            self._raw.rename(self._old)
        if not self._raw.exists():
            self._reopen()
            return  # Envoy may still write to the old one; it goes next time
        with self._old.open("rb") as raw:
            raw.seek(self._mark.offset if self._old.stat().st_ino == self._mark.inode else 0)
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: raw.read(_CHUNK_BYTES), b""))
        self._old.unlink()
        _log.error("%d lines of the prediction log are given up: Parquet cannot keep pace", lines)
        self._count(dropped_lines=lines)
        self._again()

    def _count(self, **more: int) -> None:
        self._losses = self._losses.plus(**more)
        with suppress(OSError):  # a full disk: they are kept in memory and written with the next
            write_losses(self._parquet, self._losses)

    def _take(self, source: Path) -> bool:
        """Rows of the next lines; True when there are no more."""
        with source.open("rb") as raw:
            raw.seek(self._at)
            chunk = raw.read(_CHUNK_BYTES)
        self._declared.refresh()
        whole = chunk.rfind(b"\n") + 1
        for line in chunk[:whole].split(b"\n")[:-1]:
            try:
                row = prediction(read_line(line))
            except (ValueError, KeyError, TypeError):
                self._unreadable += 1  # what it says is not repeated: it may be about people
                continue
            if row is not None:
                self._rows.append(self._veil.over(row, self._declared.value))
        self._at += whole
        return whole == 0

    def _flush(self) -> None:
        if self._at > self._mark.offset:
            if self._rows:
                name = f"part-{self._mark.generation:06d}-{self._mark.offset:012d}"
                write_parquet(self._parquet, name, self._rows)
            if self._unreadable:
                _log.warning("%d lines of the access log cannot be read", self._unreadable)
                self._count(unreadable_lines=self._unreadable)
            self._rows, self._unreadable = [], 0
            self._save(self._mark.model_copy(update={"offset": self._at}))
        self._flushed = time.monotonic()

    def _rotate(self, source: Path) -> None:
        """Move a large or old log aside; delete one that is read out and that Envoy has let go of."""
        if source == self._old:
            if self._raw.exists():
                self._old.unlink()
            else:
                self._reopen()
        elif self._at > self._rotate_bytes or (self._at and time.monotonic() - self._opened > self._rotate_s):
            self._flush()
            self._raw.rename(self._old)
            self._reopen()

    def _reopen(self) -> None:
        """Ask Envoy to open a new log; one that is down opens it at its start."""
        with suppress(httpx.TransportError), self._envoy() as admin:
            admin.post("/reopen_logs")

    def _count_failed_writes(self) -> None:
        """Envoy counts from its start; ours goes on."""
        if not self._admin.exists():
            return
        with suppress(httpx.TransportError, ValueError), self._envoy() as admin:
            said = admin.get("/stats", params={"filter": r"^filesystem\.write_failed$"}).text
            failed = int(said.partition(":")[2] or 0)
            before = self._mark.failed_writes
            more = failed - before if failed >= before else failed
            if more:
                self._save(self._mark.model_copy(update={"failed_writes": failed}))
                self._count(failed_writes=more)

    def _envoy(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self._admin), verify=False)  # a socket: there is nothing to verify
        return httpx.Client(base_url="http://envoy", transport=transport, timeout=2)

    def _sweep(self) -> None:
        """One file for each hour that is over; nothing older than it must be kept."""
        self._swept = time.monotonic()
        self._count_failed_writes()
        if not self._parquet.is_dir():
            return
        now = utcnow()
        settled = hour_folder(now - timedelta(hours=1, minutes=5))  # requests of the last hour may still come in
        oldest = hour_folder(now - self._keep)
        for hour in [h for h in sorted(self._parquet.iterdir()) if _is_hour(h.name)]:
            if hour.name < oldest:
                shutil.rmtree(hour)
            elif hour.name <= settled and [f.name for f in hour.glob("*.parquet")] != ["hour.parquet"]:
                compact(hour)

    def _load(self) -> _Mark:
        try:
            return _Mark.model_validate_json(self._mark_file.read_text())
        except (OSError, ValueError):
            return _Mark()

    def _save(self, mark: _Mark) -> None:
        draft = self._mark_file.with_suffix(".new")
        draft.write_text(mark.model_dump_json())
        draft.replace(self._mark_file)
        self._mark = mark


def _is_hour(name: str) -> bool:
    try:
        datetime.strptime(name, _HOUR)  # noqa: DTZ007 - only its shape matters
    except ValueError:
        return False
    return True
