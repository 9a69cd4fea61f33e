"""An online store in a file that is held, full, read-only or another program's: told, and nothing half-written."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from themisto.errors import Conflict, NotFound, Unavailable
from themisto.features import sqlite
from themisto.features.models import Column
from themisto.features.online import OnlineTable
from themisto.features.sqlite import SqliteStore

TABLE = OnlineTable(name="t", columns=(Column(name="x", dtype="string"),))
ROWS = [(f"k{n}", 1, 1, "x" * 1000) for n in range(100)]
KEYS = [row[0] for row in ROWS]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "online.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(path)
    opened.ensure(TABLE)
    opened.write(TABLE, [("old", 1, 1, "there")])
    yield opened
    opened.close()


def test_a_file_that_another_process_holds_is_told_and_read_and_written_afterwards(store, path) -> None:
    store._writer.execute("PRAGMA busy_timeout = 10")
    holding = (
        f"import sqlite3, sys\ncon = sqlite3.connect({str(path)!r}, isolation_level=None)\n"
        "con.execute('BEGIN IMMEDIATE')\nprint('held', flush=True)\nsys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Unavailable, match="cannot be written: database is locked") as told:
            store.write(TABLE, ROWS)
        assert told.value.remedy == "Another process holds it; try again in a moment."
        assert store.read(TABLE, ["old", "k0"]) == [("old", 1, 1, "there"), None]
        holder.communicate()
    assert store.write(TABLE, ROWS) == 100
    assert all(store.read(TABLE, KEYS))


@pytest.mark.parametrize("batch", [10, 5000])
def test_a_full_disk_is_told_and_the_writer_goes_on_where_it_stopped(store, path, monkeypatch, batch) -> None:
    monkeypatch.setattr(sqlite, "_BATCH", batch)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = max(path.with_name(f"{path.name}{end}").stat().st_size for end in ("", "-wal")) + 40_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        with pytest.raises(Unavailable, match="cannot be written") as told:
            store.write(TABLE, ROWS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "disk" in told.value.remedy
    there = sum(row is not None for row in store.read(TABLE, KEYS))
    assert there % batch == 0
    assert there < 100
    assert store.write(TABLE, ROWS) == 100
    assert all(store.read(TABLE, ["old", *KEYS]))


def test_a_file_that_may_not_be_written_is_told(store, path) -> None:
    store._writer.execute("PRAGMA query_only = true")
    with pytest.raises(Unavailable, match="attempt to write a readonly database") as told:
        store.write(TABLE, ROWS)
    assert told.value.remedy == "Let this user write to it and to its folder."
    assert store.read(TABLE, ["old", "k0"]) == [("old", 1, 1, "there"), None]


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be opened: unable to open database file") as told:
        SqliteStore(tmp_path)
    assert told.value.remedy == "Let this user read and write it and its folder."


def test_a_file_of_another_program_is_told_and_stays_as_it_is(path: Path) -> None:
    path.write_text("a letter, and no database" * 100)
    with pytest.raises(Unavailable, match="file is not a database") as told:
        SqliteStore(path)
    assert "another program's" in told.value.remedy
    assert path.read_text().startswith("a letter")


def test_a_damaged_file_is_told_with_the_way_back(store, path) -> None:
    store.write(TABLE, ROWS)
    store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    damaged = SqliteStore(path)
    with pytest.raises(Unavailable, match="malformed") as told:
        damaged.read(TABLE, KEYS)
    damaged.close()
    assert "materialize VIEW --full" in told.value.remedy


FOREIGN = {
    "of another program": ("CREATE TABLE t (x TEXT)", "has a table t that is not ours", "a file of its own"),
    "with a column of another type": (
        "CREATE TABLE t (key_ TEXT, at_ INTEGER, seq_ INTEGER, until_ INTEGER, x REAL)",
        "'x' of t is REAL in the online store, not TEXT",
        "new version",
    ),
}


@pytest.mark.parametrize(("made", "says", "remedy"), FOREIGN.values(), ids=FOREIGN)
def test_a_table_that_differs_is_told_and_stays_as_it_is(path: Path, made, says, remedy) -> None:
    with sqlite3.connect(path) as con:
        con.execute(made)
    con.close()
    store = SqliteStore(path)
    with pytest.raises(Conflict, match=says) as told:
        store.ensure(TABLE.model_copy(update={"columns": (Column(name="more", dtype="int64"), *TABLE.columns)}))
    assert remedy in told.value.remedy
    assert store._writer.execute("SELECT sql FROM sqlite_master WHERE name = 't'").fetchone() == (made,)
    store.close()


def test_a_table_that_lacks_a_column_gets_it_and_keeps_its_rows(store) -> None:
    wider = OnlineTable(name="t", columns=(*TABLE.columns, Column(name="y", dtype="int64")))
    store.ensure(wider)
    store.ensure(TABLE)
    assert store.read(wider, ["old"]) == [("old", 1, 1, "there", None)]


def test_an_erasure_that_does_not_get_through_erases_nobody(store) -> None:
    store.write(TABLE, ROWS)
    store._writer.execute(
        "CREATE TRIGGER no BEFORE DELETE ON t WHEN OLD.key_ = 'k1' BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(Unavailable, match="cannot be written: no"):
        store.erase(TABLE, ["k0", "k1"])
    assert all(store.read(TABLE, ["k0", "k1"]))


def test_rows_that_were_never_brought_are_not_found(store) -> None:
    with pytest.raises(NotFound, match="no online rows yet"):
        store.read(OnlineTable(name="u", columns=TABLE.columns), ["old"])
