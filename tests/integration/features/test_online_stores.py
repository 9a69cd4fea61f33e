"""The contract of `OnlineStore`, on every store there is.

Cassandra is asked for: THEMISTO_TEST_CASSANDRA is its URL, or `start` for one of the tests' own
(Java 17 and Maven; 20 s). A store of another package is held to it by its URL in THEMISTO_TEST_STORE.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from themisto.errors import Invalid, NotFound
from themisto.features.models import Column, Online
from themisto.features.online import AsyncReads, OnlineStore, OnlineTable, encode_key, open_store, table_name
from themisto.features.tiles import Applied, Tiles
from themisto.features.windows import Aggregate, Windows

STORES = ["sqlite", "cassandra", *([os.environ["THEMISTO_TEST_STORE"]] if "THEMISTO_TEST_STORE" in os.environ else [])]


@pytest.fixture(scope="module", params=STORES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnlineStore]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('online') / 'online.db'}"
    elif request.param == "cassandra":
        url = request.getfixturevalue("cassandra_url")
    else:
        url = request.param
    opened = open_store(url)
    yield opened
    opened.close()


@pytest.fixture
def table(store: OnlineStore) -> Iterator[OnlineTable]:
    made = OnlineTable(
        name=f"t{time.time_ns()}",
        columns=(
            Column(name="order", dtype="int64"),
            Column(name="small", dtype="int32"),
            Column(name="score", dtype="float64"),
            Column(name="single", dtype="float32"),
            Column(name="flag", dtype="bool"),
            Column(name="text", dtype="string"),
            Column(name="moment", dtype="timestamp"),
            Column(name="balance", dtype="decimal"),
            Column(name="days", dtype="list[int64]"),
            Column(name="embedding", dtype="list[float32]"),
            Column(name="shares", dtype="list[float64]"),
        ),
    )
    store.ensure(made)
    yield made
    store.drop(made)


ROW = (
    2**40,
    -7,
    0.1,
    0.5,
    True,
    "naïve 'quoted' \" text",
    -(10**15) - 1,
    Decimal("-12345678901234567890.123456789"),
    [1, -(2**60)],
    [0.5, -1.25],
    [0.1, 1e300],
)
OTHER = (1, 2, 3.0, 4.0, False, "", 0, Decimal("0"), [], [0.0], [1.0])
NULLS = (None,) * 11


def test_what_is_written_is_read_with_its_types(store: OnlineStore, table: OnlineTable) -> None:
    store.write(table, [("a", 10, 1, *ROW), ("b", 11, 1, *NULLS)])
    assert store.read(table, ["a", "b"]) == [("a", 10, 1, *ROW), ("b", 11, 1, *NULLS)]
    kinds = [int, int, float, float, bool, str, int, Decimal, list, list, list]
    assert [type(v) for v in store.read(table, ["a"])[0][3:]] == kinds


def test_answers_keep_order_doubles_and_holes(store: OnlineStore, table: OnlineTable) -> None:
    store.write(table, [(f"k{i}", i, 1, *OTHER) for i in range(1, 1500)])
    asked = [f"k{i}" for i in range(1400, 0, -1)] + ["missing", "k3", "k3"]
    found = store.read(table, asked)
    assert [row and row[0] for row in found] == [*asked[:1400], None, "k3", "k3"]
    assert store.read(table, []) == []
    assert store.read(table, ["missing"]) == [None]


def test_late_event_loses(store: OnlineStore, table: OnlineTable) -> None:
    store.write(table, [("a", 100, 1, *ROW)])
    store.write(table, [("a", 99, 1, *OTHER)])
    assert store.read(table, ["a"]) == [("a", 100, 1, *ROW)]
    store.write(table, [("a", 101, 1, *OTHER)])
    assert store.read(table, ["a"]) == [("a", 101, 1, *OTHER)]


def test_newer_nulls_win_too(store: OnlineStore, table: OnlineTable) -> None:
    store.write(table, [("a", 100, 1, *ROW)])
    store.write(table, [("a", 101, 1, *NULLS)])
    assert store.read(table, ["a"]) == [("a", 101, 1, *NULLS)]


def test_writing_again_changes_nothing(store: OnlineStore, table: OnlineTable) -> None:
    rows = [("a", 100, 1, *ROW), ("b", 100, 1, *OTHER)]
    assert store.write(table, rows) == 2
    assert store.write(table, iter(rows)) == 2
    store.ensure(table)
    assert store.read(table, ["b", "a"]) == rows[::-1]


def test_events_before_1970_and_odd_keys(store: OnlineStore, table: OnlineTable) -> None:
    keys = ["'; DROP TABLE x; --", "日本", "a" * 1000, "5:a", "\x00"]
    store.write(table, [(key, -5, 1, *ROW) for key in keys])
    assert store.read(table, keys) == [(key, -5, 1, *ROW) for key in keys]


def test_of_one_event_time_the_greater_sequence_counts(store: OnlineStore, table: OnlineTable) -> None:
    store.write(table, [("a", 10, 7, *ROW)])
    store.write(table, [("a", 10, 6, *OTHER)])
    assert store.read(table, ["a"]) == [("a", 10, 7, *ROW)]
    store.write(table, [("a", 10, 8, *NULLS)])
    assert store.read(table, ["a"]) == [("a", 10, 8, *NULLS)]


def test_of_one_event_time_in_one_write_the_greater_sequence_counts(store: OnlineStore, table: OnlineTable) -> None:
    store.write(table, [("a", 10, 7, *NULLS), ("a", 10, 8, *OTHER), ("a", 10, 6, *ROW)])
    assert store.read(table, ["a"]) == [("a", 10, 8, *OTHER)]


def test_a_row_that_is_written_again_with_its_sequence_is_whole(store: OnlineStore, table: OnlineTable) -> None:
    for values in (ROW, OTHER, ROW, NULLS, OTHER):  # whichever of two values is the greater
        store.write(table, [("a", 10, 7, *values)])
        assert store.read(table, ["a"]) == [("a", 10, 7, *values)]


@pytest.mark.parametrize("new", [False, True])
def test_what_comes_back_after_an_erasure_is_there_whatever_its_sequence(
    store: OnlineStore, table: OnlineTable, new: bool
) -> None:
    """As rows with a created time do, when the one that hid them is no more, or is back from a quarantine."""
    store.write(table, [("a", 1, 10, *OTHER)])
    store.write(table, [("a", 2, 20, *ROW)])  # the older row makes room
    store.erase(table, ["a"])
    store.write(table, [("a", 1, 10, *OTHER)], new=new)
    assert store.read(table, ["a"]) == [("a", 1, 10, *OTHER)]
    store.erase(table, ["a"])
    store.write(table, [("a", 2, 20, *ROW)], new=new)
    assert store.read(table, ["a"]) == [("a", 2, 20, *ROW)]


def test_a_clock_that_was_set_back_loses_no_row_and_no_erasure(
    cassandra_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = OnlineTable(name=f"clock{time.time_ns()}", columns=(Column(name="x", dtype="int64"),))
    store = open_store(cassandra_url)
    try:
        store.ensure(made)
        store.write(made, [("a", 1, 1, 7)])
    finally:
        store.close()
    hour_ago = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr("themisto.features.cassandra_writing.time.time_ns", lambda: hour_ago)
    store = open_store(cassandra_url)
    try:
        store.write(made, [("a", 1, 2, 8)])
        assert store.read(made, ["a"]) == [("a", 1, 2, 8)]
        store.erase(made, ["a", "b"])
        assert store.read(made, ["a", "b"]) == [None, None]
        store.write(made, [("a", 1, 2, 9), ("b", 1, 2, 9)])
        assert store.read(made, ["a", "b"]) == [("a", 1, 2, 9), ("b", 1, 2, 9)]
    finally:
        store.close()


def test_history_is_newest_first_and_as_long_as_was_asked(store: OnlineStore, table: OnlineTable) -> None:
    kept = table.model_copy(update={"online": Online(keep=3)})
    store.write(kept, [("a", at, at, *OTHER) for at in (3, 1, 2)])
    store.write(kept, [("b", 5, 5, *ROW)])
    found = store.history(kept, ["b", "x", "a", "a"], 2)
    assert [[row[1] for row in rows] for rows in found] == [[5], [], [3, 2], [3, 2]]
    assert [row[1] for row in store.history(kept, ["a"], 9)[0]] == [3, 2, 1]
    assert store.read(kept, ["a"]) == [("a", 3, 3, *OTHER)]


def test_rows_of_new_entities_are_as_any_others(store: OnlineStore, table: OnlineTable) -> None:
    kept = table.model_copy(update={"online": Online(keep=2)})
    assert store.write(kept, [("a", at, at, *ROW) for at in (4, 3)], new=True) == 2
    assert store.read(kept, ["a"]) == [("a", 4, 4, *ROW)]
    store.write(kept, [("a", 4, 4, *ROW)], new=True)  # again, as after a kill
    store.write(kept, [("a", at, at, *OTHER) for at in (6, 5)])
    assert [row[1] for row in store.history(kept, ["a"], 100)[0]] == [6, 5]


def test_a_new_entity_has_no_tombstone(cassandra_url: str) -> None:
    store, made = (
        open_store(cassandra_url),
        OnlineTable(name=f"new{time.time_ns()}", columns=(Column(name="x", dtype="int64"),)),
    )
    try:
        store.ensure(made)
        store.write(made, [("a", 1, 1, 7)])
        store.write(made, [("a", 2, 2, 8)], new=True)
        assert [row[1] for row in store.history(made, ["a"], 9)[0]] == [2, 1], "nothing was removed"
        store.write(made, [("a", 3, 3, 9)])
        assert [row[1] for row in store.history(made, ["a"], 9)[0]] == [3]
    finally:
        store.close()


def test_no_more_is_kept_than_was_said(store: OnlineStore, table: OnlineTable) -> None:
    kept = table.model_copy(update={"online": Online(keep=2)})
    for first in range(0, 10, 2):
        store.write(kept, [("a", first, first, *OTHER), ("a", first + 1, first, *OTHER)])
    assert [row[1] for row in store.history(kept, ["a"], 100)[0]] == [9, 8]
    for at in range(5):
        store.write(table, [("b", at, at, *OTHER)])
    assert len(store.history(table, ["b"], 100)[0]) == 1


def test_a_row_is_gone_after_its_time(store: OnlineStore, table: OnlineTable) -> None:
    kept = table.model_copy(update={"online": Online(ttl_s=3600)})
    now = time.time_ns() // 1000
    long_ago = now - 3_700_000_000
    store.write(kept, [("old", long_ago, now, *ROW), ("new", now, now, *ROW), ("soon", now - 3_598_000_000, now, *ROW)])
    assert [row and row[0] for row in store.read(kept, ["old", "new", "soon"])] == [None, "new", "soon"]
    time.sleep(4)
    assert [row and row[0] for row in store.read(kept, ["new", "soon"])] == ["new", None]


def test_an_erased_entity_is_gone_and_can_come_back(store: OnlineStore, table: OnlineTable) -> None:
    now = time.time_ns() // 1000
    store.write(table, [("a", 1, now, *ROW), ("b", 1, now, *ROW)])
    store.erase(table, ["a", "never there"])
    assert store.read(table, ["a", "b"]) == [None, ("b", 1, now, *ROW)]
    later = time.time_ns() // 1000
    store.write(table, [("a", 1, later, *OTHER)])
    assert store.read(table, ["a"]) == [("a", 1, later, *OTHER)]


@pytest.mark.parametrize("consistency", [None, "ONE"])
def test_what_came_in_before_an_erasure_and_is_written_after_it_is_there(
    store: OnlineStore, table: OnlineTable, consistency: Any
) -> None:
    table = table.model_copy(update={"online": Online(consistency=consistency)})
    store.write(table, [("a", 2, 10, *ROW)])
    store.erase(table, ["a"])
    assert store.read(table, ["a"]) == [None]
    store.write(table, [("a", 1, 11, *OTHER)])  # an older event of a file that came in long ago
    assert store.read(table, ["a"]) == [("a", 1, 11, *OTHER)]


def test_ensure_brings_a_table_to_what_is_said_now(store: OnlineStore, table: OnlineTable) -> None:
    store.write(table, [("a", 1, 1, *ROW)])
    store.ensure(table.model_copy(update={"online": Online(compaction="LeveledCompactionStrategy")}))
    assert store.read(table, ["a"]) == [("a", 1, 1, *ROW)]


def test_ensure_sets_ours_where_cassandras_own_stands_and_leaves_what_an_operator_has_set(cassandra_url: str) -> None:
    store: Any = open_store(cassandra_url)
    mine = OnlineTable(name=f"s{time.time_ns()}", columns=(Column(name="x", dtype="int64"),))

    def options_after(change: str | None) -> tuple[str, str]:
        if change is not None:
            store._session.execute(f'ALTER TABLE "{mine.name}" WITH {change}')
        store.ensure(mine)
        asked = "SELECT speculative_retry, compression FROM system_schema.tables WHERE keyspace_name = %s"
        where = (store._session.keyspace, mine.name)
        retry, compression = store._session.execute(f"{asked} AND table_name = %s", where).one()
        return retry.lower(), compression["chunk_length_in_kb"]

    assert options_after(None) == ("10ms", "4")
    cassandras = "{'class': 'LZ4Compressor', 'chunk_length_in_kb': 16}"
    assert options_after(f"speculative_retry = '99p' AND compression = {cassandras}") == ("10ms", "4")
    operators = "{'class': 'ZstdCompressor', 'chunk_length_in_kb': 8}"
    assert options_after(f"speculative_retry = '50ms' AND compression = {operators}") == ("50ms", "8")
    assert options_after("speculative_retry = 'NONE'") == ("never", "8")
    store.drop(mine)
    store.close()


def test_part_of_the_columns_can_be_read(store: OnlineStore, table: OnlineTable) -> None:
    store.write(table, [("a", 10, 1, *ROW)])
    part = OnlineTable(name=table.name, columns=(table.columns[5], table.columns[0]))
    assert store.read(part, ["a"]) == [("a", 10, 1, ROW[5], ROW[0])]


def test_tiles_of_events_in_any_order(store: OnlineStore) -> None:
    minute = 60_000_000
    now = time.time_ns() // 1000 // (5 * minute) * 5 * minute
    types = {"amount": "float64", "cents": "int64", "eur": "decimal", "who": "string"}
    inputs = tuple(Column(name=n, dtype=d) for n, d in types.items())
    aggregates = [Aggregate("*", "count", over=["5m", "1h"])]
    aggregates += [Aggregate("amount", f, over="1h") for f in ("avg", "min", "max", "stddev", "last")]
    aggregates += [Aggregate("cents", "sum", over="1h"), Aggregate("eur", "sum", over="1h")]
    aggregates += [Aggregate("who", f, over="1h") for f in ("count_distinct", "last", "min")]
    windows = Windows(every_s=300, aggregates=aggregates, sequence="n", inputs=inputs)
    table = OnlineTable.of_tiles(f"w{time.time_ns()}", windows, Online())
    store.ensure(table)
    tiles = Tiles(store, table)
    events = [
        ("a", now - 1, 1, 1.0, 2**62, Decimal("0.000000001"), "x"),
        ("a", now - 1, 2, 3.0, -(2**62), Decimal("1e20"), "y"),
        ("a", now - 20 * minute, 3, None, None, None, None),
        ("a", now - 50 * minute, 4, 8.0, 5, Decimal("2.5"), "x"),
        ("b", now - 1, 1, 0.5, 1, Decimal(1), "é"),
    ]
    for event in events[::-1] + events[:2]:
        tiles.apply([event])
    assert tiles.apply(events) == Applied(new=0, again=5, full=0)
    a, b, nobody = tiles.values(["a", "b", "nobody"], now)
    assert a == (
        "a",
        now,
        0,
        2,
        4,
        4.0,
        1.0,
        8.0,
        pytest.approx(13**0.5),
        3.0,
        5,
        Decimal("100000000000000000002.500000001"),
        2,
        "y",
        "x",
    )
    assert b == ("b", now, 0, 1, 1, 0.5, 0.5, 0.5, None, 0.5, 1, Decimal(1), 1, "é", "é")
    assert nobody == ("nobody", now, 0, 0, 0, None, None, None, None, None, 0, Decimal(0), 0, None, None)
    store.erase(table, ["a"])
    assert tiles.values(["a"], now)[0][3:5] == (0, 0)
    assert tiles.apply(events) == Applied(new=4, again=1, full=0)
    assert tiles.values(["a"], now) == [a]
    store.drop(table)


def test_a_read_that_no_thread_waits_for_answers_as_any_other(store: OnlineStore, table: OnlineTable) -> None:
    if not isinstance(store, AsyncReads):
        assert not hasattr(store, "read_async")  # a file needs no waiting
        return
    keys = [f"k{n}" for n in range(250)]
    store.write(table, [(key, n, 1, *ROW) for n, key in enumerate(keys)])
    assert store.read_async(table, keys) is None  # nothing is prepared
    store.prepare(table)
    for asked in (keys[:1], ["nobody"], [*keys, "nobody", *keys[:3]], []):
        begun = store.read_async(table, asked)
        assert begun is not None
        assert begun.result(20) == store.read(table, asked)
    nobodys = store.read_async(table, keys)
    assert nobodys is not None
    nobodys.cancel()
    begun = store.read_async(table, keys[:2])
    assert begun is not None
    assert [row and row[0] for row in begun.result(20)] == ["k0", "k1"]


def test_a_table_that_went_away_is_told_by_a_read_that_no_thread_waits_for(cassandra_url: str) -> None:
    reader, other = open_store(cassandra_url), open_store(cassandra_url)
    assert isinstance(reader, AsyncReads)
    gone = OnlineTable(name=f"gone{time.time_ns()}", columns=(Column(name="x", dtype="int64"),))
    other.ensure(gone)
    reader.prepare(gone)
    other.drop(gone)
    for asked in (["a"], [f"k{n}" for n in range(150)]):  # one request, and two that both fail
        begun = reader.read_async(gone, asked)
        assert begun is not None
        with pytest.raises(NotFound, match="materialize"):
            begun.result(20)
    reader.close()
    other.close()


def test_table_that_was_never_made_is_not_found(store: OnlineStore, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NotFound, match="materialize"):
        store.read(OnlineTable(name="never_made", columns=(Column(name="x", dtype="int64"),)), ["a"])
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]  # it is no error of the store's


def test_readers_and_writers_in_many_threads(store: OnlineStore, table: OnlineTable) -> None:
    failures: list[BaseException] = []

    def work(n: int) -> None:
        try:
            for i in range(20):
                store.write(table, [(f"k{j}", 1000 * n + i, 1, *OTHER) for j in range(20)])
                assert all(store.read(table, [f"k{j}" for j in range(20)]))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert {row[1] for row in store.read(table, [f"k{j}" for j in range(20)])} == {3019}


def test_rows_outlive_the_process(tmp_path: Path, table: OnlineTable) -> None:
    url = f"sqlite:///{tmp_path / 'online.db'}"
    first = open_store(url)
    first.ensure(table)
    first.write(table, [("a", 1, 1, *ROW)])
    first.close()
    again = open_store(url)
    assert again.read(table, ["a"]) == [("a", 1, 1, *ROW)]
    again.close()


@pytest.mark.parametrize(
    "url", ["redis://x", "cassandra:///ks", "cassandra://h/Bad-Keyspace", "cassandra://h/ks?x=1", ""]
)
def test_wrong_urls_are_told(url: str) -> None:
    with pytest.raises(Invalid):
        open_store(url)


def test_no_two_entities_share_a_key() -> None:
    pair = [Column(name="a", dtype="string"), Column(name="b", dtype="string")]
    assert encode_key(pair, ["1:", "2"]) != encode_key(pair, ["1", ":2"])
    number = [Column(name="a", dtype="int64")]
    assert encode_key(number, [7]) == "7"
    for wrong in (True, 1.0, "7", None):
        with pytest.raises(Invalid):
            encode_key(number, [wrong])
    with pytest.raises(Invalid):
        encode_key(pair[:1], [""])


def test_table_names_are_identifiers_of_their_own() -> None:
    names = {table_name(g, v, n) for g in ("data-science", "x") for v in ("w" * 48, "w" * 47) for n in (1, 999)}
    assert len(names) == 8
    assert all(OnlineTable(name=n, columns=()) for n in names)
