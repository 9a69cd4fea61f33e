"""DuckDB as the offline engine: bounded in memory, spilling into a folder of its own, and stopped when told.

What does not fit into memory goes to a folder below `Bounds.spill`. It is locked while it is used and removed after
it; one whose process was killed is removed by the next that comes along.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import uuid4

from themisto.errors import Failed, Refused

if TYPE_CHECKING:
    import duckdb

    from themisto.settings import Settings

__all__ = ["Bounds", "Elsewhere", "Told", "bounded", "connected", "scratch", "watched"]

Told = Callable[[float], None]
"""Who is told how far a query is, from 0 to 1."""

_T = TypeVar("_T")
_POLL_S = 0.2
_DUCKDB = 0.85  # its share of the memory: Python and what comes out of a query are not in what it counts
_SPILL = "max_temp_directory_size"
_FULL = ("no space left", "failed to offload", "could not write", _SPILL)


@dataclass(frozen=True)
class Bounds:
    """What a query may use.

    memory_gib: what the work may take; None: DuckDB's own default, 80 % of the machine's or container's.
    spill: where what does not fit goes; None: the system's temporary folder. spill_gib: at most so much of it.
    budget_s: how long SQL that a person wrote may run.
    engine: who joins, `spark+…`; None: DuckDB.
    """

    memory_gib: float | None = None
    spill: Path | None = None
    spill_gib: float | None = None
    budget_s: float = 600.0
    engine: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        return cls(
            memory_gib=settings.features_memory_gib,
            spill=settings.features_spill or settings.home / "spill",
            spill_gib=settings.features_spill_gib,
            budget_s=settings.features_sql_budget_s,
            engine=settings.features_engine,
        )

    @property
    def folder(self) -> Path:
        return self.spill or Path(tempfile.gettempdir()) / f"themisto-spill-{os.getuid()}"

    def config(self, folder: Path) -> Mapping[str, str]:
        """As DuckDB's configuration."""
        said = {"temp_directory": str(folder)}
        if self.memory_gib is not None:
            said["memory_limit"] = f"{self.memory_gib * _DUCKDB:.3f}GiB"
        if self.spill_gib is not None:
            said[_SPILL] = f"{self.spill_gib}GiB"
        return said


class Elsewhere(Protocol):
    """Work that another engine does: how much of it is done, from 0 to 1, and the way to stop it."""

    @property
    def share(self) -> float: ...

    def stop(self) -> None: ...


@contextmanager
def scratch(bounds: Bounds) -> Iterator[Path]:
    """A folder of one's own, gone afterwards; those that killed processes left are removed first."""
    root = bounds.folder
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(root)
    name = root / uuid4().hex
    lock = _locked(name.with_suffix(".lock"))
    try:
        name.mkdir(mode=0o700)
        yield name
    finally:
        shutil.rmtree(name, ignore_errors=True)
        name.with_suffix(".lock").unlink(missing_ok=True)
        os.close(lock)


@contextmanager
def bounded(bounds: Bounds) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """A connection in UTC within bounds, and the folder that it spills to, for what else is too large."""
    with scratch(bounds) as folder, connected(bounds.config(folder)) as con:
        yield con, folder


def connected(config: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    """A connection in memory and in UTC with this configuration, all of it."""
    import duckdb

    con = duckdb.connect(":memory:", config=dict(config))
    if _SPILL in config:  # DuckDB takes it with its configuration, and does not keep to it
        con.execute(f"SET {_SPILL} = '{config[_SPILL]}'")
    con.execute("SET TimeZone = 'UTC'")
    return con


def watched(
    con: duckdb.DuckDBPyConnection,
    work: Callable[[], _T],
    *,
    what: str,
    bounds: Bounds,
    told: Told | None = None,
    budget_s: float | None = None,
    elsewhere: Elsewhere | None = None,
) -> _T:
    """What `work` gives; it runs in a thread, so that Ctrl-C and the budget reach the query at once.

    what: how the work is called in messages, such as "The join". told: hears how far it is.
    elsewhere: what of it is not this connection's.
    Raises Failed for what is stopped or finds no room, Refused where the budget is spent; else what `work` raises.
    """
    done: list[_T] = []
    wrong: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            wrong.append(error)

    if told is not None:
        con.execute("SET enable_progress_bar = true")
        con.execute("SET enable_progress_bar_print = false")
    thread = threading.Thread(target=run, name=what, daemon=True)
    spent = 0.0
    try:
        thread.start()
        while thread.is_alive() and (budget_s is None or spent < budget_s):
            wait = _POLL_S if budget_s is None else min(_POLL_S, budget_s - spent)
            thread.join(wait)
            spent += wait
            if told is not None and thread.is_alive():
                told(max(con.query_progress(), 0.0) / 100 if elsewhere is None else elsewhere.share)
    except KeyboardInterrupt:
        _stop(con, thread, elsewhere)
        raise Failed(f"You stopped it. {what} left nothing behind.", "Run it again when you want it whole.") from None
    if thread.is_alive():
        _stop(con, thread, elsewhere)
        raise Refused(
            f"{what} did not end within {budget_s:g} s.",
            "Compute less at once, or raise THEMISTO_FEATURES_SQL_BUDGET_S.",
        )
    if wrong:
        raise _told(wrong[0], what, bounds) from None
    return done[0]


def _stop(con: duckdb.DuckDBPyConnection, thread: threading.Thread, elsewhere: Elsewhere | None) -> None:
    """An interrupt between two queries is lost: it is repeated until the work has heard one."""
    while thread.is_alive():
        try:
            if elsewhere is not None:
                elsewhere.stop()
            con.interrupt()
            thread.join(0.05)
        except KeyboardInterrupt:
            continue


def _told(error: BaseException, what: str, bounds: Bounds) -> BaseException:
    """No room in memory or on the disk, in our words; anything else as it is."""
    import duckdb

    memory = "" if bounds.memory_gib is None else f" ({bounds.memory_gib:g} GiB)"
    text = str(error).lower()
    no_room = isinstance(error, OSError | duckdb.OutOfMemoryException | duckdb.IOException)
    if no_room and any(word in text for word in _FULL):
        return Failed(
            f"{what} does not fit into its memory{memory}, and there is no room left for it in {bounds.folder}.",
            "Free some, or set THEMISTO_FEATURES_SPILL to a larger disk or THEMISTO_FEATURES_MEMORY_GIB higher.",
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return Failed(
            f"{what} does not fit into its memory{memory}, even with its rows on disk.",
            "Raise THEMISTO_FEATURES_MEMORY_GIB, or take fewer rows or views at once.",
        )
    return error


def _locked(path: Path) -> int:
    """A file that is locked, and is the one at `path`: a sweeper may have removed it in between."""
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)


def _sweep(root: Path) -> None:
    for lock in root.glob("*.lock"):
        try:
            handle = os.open(lock, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
        except BlockingIOError:
            pass  # somebody works there
        finally:
            os.close(handle)
