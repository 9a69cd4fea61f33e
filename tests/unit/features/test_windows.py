"""Windows: one definition, three ways to an answer, against a reference that looks at every raw event."""

from __future__ import annotations

import math
import sqlite3
import statistics
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import themisto
from themisto.errors import Invalid
from themisto.features.dtypes import micros
from themisto.features.join import point_in_time
from themisto.features.latest import latest
from themisto.features.online import OnlineTable
from themisto.features.resolve import resolve
from themisto.features.rowfile import write_parquet
from themisto.features.sqlite import SqliteStore
from themisto.features.tiles import Applied, Tiles, write_rows
from themisto.features.windows import MAX_EVENTS, Aggregate

MINUTE = 60_000_000
EVERY = 5 * MINUTE
START = datetime.fromtimestamp((time.time() // 300 + 288) * 300, UTC)  # a day ahead: nothing expires
COLUMNS = {
    "amount": pa.float64(),
    "cents": pa.int64(),
    "price": pa.decimal128(38, 9),
    "merchant": pa.string(),
    "seen": pa.timestamp("us", "UTC"),
    "small": pa.float32(),
    "flag": pa.bool_(),
}
AGGREGATES = [
    Aggregate("*", "count", over=["5m", "1h"]),
    Aggregate("*", "count", over="30m", tumbling=True),
    *[Aggregate("amount", f, over=["10m", "1h"]) for f in ("count", "sum", "avg", "min", "max", "stddev", "last")],
    *[Aggregate("cents", f, over=["10m", "40m"]) for f in ("sum", "avg", "max", "stddev", "count_distinct")],
    *[Aggregate("price", f, over="1h") for f in ("sum", "avg", "min", "last", "count_distinct")],
    *[Aggregate("merchant", f, over=["5m", "20m"]) for f in ("count", "min", "max", "last", "count_distinct")],
    Aggregate("seen", "max", over="1h"),
    Aggregate("small", "last", over="1h"),
    Aggregate("flag", "last", over="20m"),
    Aggregate("merchant", "count_distinct", over=["15m", "30m"], tumbling=True),
    Aggregate("cents", "sum", over="30m", tumbling=True),
]

minutes = st.sampled_from([-45, -31, -30, -11, -5, 0, 4, 5, 29])  # few, so that they meet
when = st.builds(lambda m, us: m * MINUTE + us, minutes, st.sampled_from([0, 0, 0, 0, 59_999_999]))
names = st.tuples(st.sampled_from(["a", "b"]), when, st.integers(0, 2))
contents = st.tuples(
    st.one_of(st.none(), st.sampled_from([math.nan, math.inf, 1e200]), st.floats(-1e6, 1e6, width=32)),
    st.one_of(st.none(), st.integers(-(2**62), 2**62)),
    st.one_of(st.none(), st.decimals(-(10**15), 10**15, places=9)),
    st.one_of(st.none(), st.sampled_from(["x", "y", "é", "", "z" * 80])),
    st.one_of(st.none(), st.integers(0, 10**15)),
    st.one_of(st.none(), st.floats(-10, 10, width=16)),
    st.one_of(st.none(), st.booleans()),
)
asked = st.lists(st.tuples(st.sampled_from(["a", "b", "nobody"]), when), min_size=1, max_size=4)


def reference(events: dict, key: str, at: int, aggregate: Aggregate, length_s: int):
    """The definition, word for word: all events of the window, in order of time and sequence."""
    step = length_s * 1_000_000 if aggregate.tumbling else EVERY
    end = at - at % step
    inside = sorted(e for e in events if e[0] == key and end - length_s * 1_000_000 <= e[1] < end)
    if aggregate.column == "*":
        return len(inside)
    values = [events[e][list(COLUMNS).index(aggregate.column)] for e in inside]
    values = [v for v in values if v is not None and not (isinstance(v, float) and not abs(v) <= 1e150)]
    if aggregate.function == "count":
        return len(values)
    if aggregate.function == "count_distinct":
        return len(set(values))
    if aggregate.function == "sum":
        total = sum(values)
        return total if aggregate.column != "cents" or -(2**63) <= total < 2**63 else None
    if not values or (aggregate.function == "stddev" and len(values) < 2):
        return None
    if aggregate.function == "last":
        return values[-1]
    functions = {"min": min, "max": max, "avg": statistics.fmean, "stddev": lambda v: statistics.stdev(map(float, v))}
    return functions[aggregate.function](values)


def view_of(table: pa.Table, **more) -> themisto.FeatureView:
    customer = themisto.Entity("customer", keys=["who"])
    given = {"every": "5m", "sequence": "number", "aggregates": AGGREGATES} | more
    return themisto.FeatureView("spending", entity=customer, at="at", source=table, **given).with_version(1)


def table_of(events: list[tuple], contents: dict) -> pa.Table:
    columns = {
        "who": pa.array([e[0] for e in events], pa.string()),
        "at": pa.array([micros(START) + e[1] for e in events], pa.timestamp("us", "UTC")),
        "number": pa.array([e[2] for e in events], pa.int64()),
    }
    for i, (name, type_) in enumerate(COLUMNS.items()):
        columns[name] = pa.array([contents[e][i] for e in events], type_)
    return pa.table(columns)


def offline(view: themisto.FeatureView, path: Path, rows: list[tuple], *, known: bool = False) -> list[dict]:
    spec = resolve(themisto.FeatureService("s", features=[view]), lambda _: view, version=1)
    frame = pd.DataFrame(
        {"who": [r[0] for r in rows], "t": pd.to_datetime([micros(START) + r[1] for r in rows], unit="us", utc=True)}
    )
    joined = point_in_time(frame, "t", spec, {view.name: path}, {view.name: view}, known=known)
    return joined.drop(columns=["who", "t"]).to_dict("records")


def online(tiles: Tiles, view: themisto.FeatureView, rows: list[tuple]) -> list[dict]:
    found = [tiles.values([who], micros(START) + at)[0] for who, at in rows]
    return [dict(zip([f.name for f in view.features], row[3:], strict=True)) for row in found]


def same(found, expected) -> bool:
    if expected is None:
        return found is None or bool(pd.isna(found))
    if isinstance(found, pd.Timestamp):
        return micros(found.to_pydatetime()) == expected
    if isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-4)
    if isinstance(found, float) and isinstance(expected, Decimal):  # a DataFrame of DuckDB's holds decimals as floats
        return math.isclose(found, float(expected), rel_tol=1e-15)
    if isinstance(found, float) and isinstance(expected, int):  # and whole numbers with holes
        return found == float(expected)
    return found == expected


def check(found: list[dict], events: dict, rows: list[tuple], way: str) -> None:
    shifted = {(e[0], micros(START) + e[1], e[2]): content for e, content in events.items()}
    for answer, (who, at) in zip(found, rows, strict=True):
        for aggregate in AGGREGATES:
            for name, length_s in zip(aggregate.features, aggregate.over_s, strict=True):
                expected = reference(shifted, who, micros(START) + at, aggregate, length_s)
                assert same(answer[name], expected), (way, who, at, name, answer[name], expected)


@settings(max_examples=25, deadline=None)
@given(events=st.dictionaries(names, contents, min_size=5, max_size=14), rows=asked, data=st.data())
def test_offline_materialized_and_streamed_answers_are_the_reference(events, rows, data):
    again = data.draw(st.lists(st.sampled_from(list(events)), max_size=5) if events else st.just([]))
    arrival = data.draw(st.permutations([*events, *again]))
    cut = data.draw(st.integers(0, len(arrival)))
    table = table_of(arrival, events)
    view = view_of(table)
    online_table = OnlineTable.of(view, "")
    rows_of = [(e[0], micros(START) + e[1], e[2], *events[e]) for e in arrival]
    with TemporaryDirectory() as folder:
        path, stored = write_parquet(view, table, Path(folder))
        assert stored.rows == len(events)
        check(offline(view, path, rows), events, rows, "offline")
        store = SqliteStore(Path(folder) / "online.db")
        for way in ("materialized", "one by one", "both"):
            tiles = Tiles(store, online_table.model_copy(update={"name": f"t{way[0]}"}))
            store.ensure(tiles._table)
            if way == "both":
                tiles.apply(rows_of[:cut])
            if way != "one by one":
                with latest(view, path, written_at=START) as found:
                    for batch, _ in found.rows():
                        tiles.apply(batch)
            if way != "materialized":
                assert sum((tiles.apply([event]).new for event in rows_of), 0) <= len(events)
            check(online(tiles, view, rows), events, rows, way)
        store.close()


@settings(max_examples=10, deadline=None)
@given(events=st.dictionaries(names, st.tuples(contents, st.integers(0, 60)), max_size=10), rows=asked)
def test_join_as_known_sees_what_had_come_by_then(events, rows):
    only = {e: content for e, (content, _) in events.items()}
    table = table_of(list(events), only)
    created = [micros(START) + e[1] + late * MINUTE for e, (_, late) in events.items()]
    view = view_of(table.append_column("made", pa.array(created, pa.timestamp("us", "UTC"))), created="made")
    with TemporaryDirectory() as folder:
        path, _ = write_parquet(view, view.source, Path(folder))
        check(offline(view, path, rows), only, rows, "now")
        # together: of some rows all events were known, of others not
        for row, found in zip(rows, offline(view, path, rows, known=True), strict=True):
            then = {e: content for e, (content, late) in events.items() if e[1] + late * MINUTE <= row[1]}
            check([found], then, [row], "known")


def test_window_ends_before_the_bucket_of_its_row(tmp_path: Path) -> None:
    at = pd.to_datetime([START - timedelta(minutes=5), START - timedelta(microseconds=1), START], utc=True)
    rows = pd.DataFrame({"who": ["a"] * 3, "at": at})
    view = view_of(rows, aggregates=[Aggregate("*", "count", over="5m")], sequence=None)
    path, _ = write_parquet(view, rows, tmp_path)
    asked = [("a", minutes * MINUTE) for minutes in (-5, 0, 4, 5, 10)]
    assert [row["count_5m"] for row in offline(view, path, asked)] == [0, 2, 2, 1, 0]


def test_windows_before_1970(tmp_path: Path) -> None:
    rows = pd.DataFrame({"who": ["a"], "at": pd.to_datetime(["1969-12-31 23:57"], utc=True)})
    view = view_of(rows, aggregates=[Aggregate("*", "count", over="5m")], sequence=None)
    path, _ = write_parquet(view, rows, tmp_path)
    spec = resolve(themisto.FeatureService("s", features=[view]), lambda _: view, version=1)
    times = pd.to_datetime(["1969-12-31 23:59", "1970-01-01 00:00", "1970-01-01 00:05"], utc=True)
    frame = pd.DataFrame({"who": ["a"] * 3, "t": times})
    assert point_in_time(frame, "t", spec, {"spending": path}, {"spending": view})["count_5m"].tolist() == [0, 1, 0]


def test_row_without_key_or_time_has_nothing(tmp_path: Path) -> None:
    rows = pd.DataFrame({"who": ["a"], "at": [START]})
    view = view_of(rows, aggregates=[Aggregate("*", "count", over="5m")], sequence=None)
    path, _ = write_parquet(view, rows, tmp_path)
    spec = resolve(themisto.FeatureService("s", features=[view]), lambda _: view, version=1)
    times = pd.to_datetime([START, None, START + timedelta(minutes=5)], utc=True)
    frame = pd.DataFrame({"who": [None, "a", "a"], "t": times})
    found = point_in_time(frame, "t", spec, {"spending": path}, {"spending": view})["count_5m"]
    assert found.isna().tolist() == [True, True, False]
    assert found.tolist()[2] == 1


def test_events_of_one_name_that_differ_are_told_not_dropped(tmp_path: Path) -> None:
    rows = pd.DataFrame({"who": ["a", "a"], "at": [START, START], "amount": [1.0, 2.0]})
    view = view_of(rows, aggregates=[Aggregate("amount", "sum", over="5m")], sequence=None)
    with pytest.raises(Invalid, match="different events of one who, at"):
        write_parquet(view, rows, tmp_path)
    equal = rows.assign(amount=1.0)
    assert write_parquet(view, equal, tmp_path)[1].rows == 1
    numbered = view_of(rows.assign(number=[1, 2]), aggregates=[Aggregate("amount", "sum", over="5m")])
    assert write_parquet(numbered, numbered.source, tmp_path)[1].rows == 2


def test_tiles_that_no_window_can_see_are_gone(tmp_path: Path) -> None:
    now = micros(datetime.now(UTC)) // EVERY * EVERY
    rows = pd.DataFrame({"who": ["a"], "at": [START]})
    view = view_of(rows, aggregates=[Aggregate("*", "count", over="5m")], sequence=None)
    store, table = SqliteStore(tmp_path / "online.db"), OnlineTable.of(view, "")
    store.ensure(table)
    tiles = Tiles(store, table)
    tiles.apply(("a", now - n * EVERY, 0) for n in range(50))
    with sqlite3.connect(tmp_path / "online.db") as con:
        assert con.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0] <= 3
    assert tiles.values(["a"], now)[0][3] == 1
    store.close()


def test_full_bucket_is_told_offline_and_online(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = pd.DataFrame({"who": "a", "at": START, "number": range(MAX_EVENTS + 1)})
    view = view_of(rows, aggregates=[Aggregate("*", "count", over="5m")])
    with pytest.raises(Invalid, match=f"{MAX_EVENTS + 1} events of one entity"):
        write_parquet(view, rows, tmp_path)
    store = SqliteStore(tmp_path / "online.db")
    table = OnlineTable.of(view, "")
    store.ensure(table)
    applied = Tiles(store, table).apply(("a", micros(START), n) for n in range(MAX_EVENTS + 1))
    assert applied == Applied(new=MAX_EVENTS, again=0, full=1)
    assert write_rows(store, table, [("a", micros(START), MAX_EVENTS)]) == 1
    assert "1 events found their bucket full" in caplog.text
    store.close()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"every": None}, "no buckets"),
        ({"every": "7s"}, "not made of whole buckets"),
        ({"every": "1s"}, "over 15000 buckets"),
        ({"every": 0.5}, "whole seconds"),
        ({"ttl": "1h"}, "windows say how long"),
        ({"online": {"keep": 5}}, "windows say how long"),
        ({"sequence": "who"}, "neither keys, times nor the sequence"),
        ({"sequence": "at"}, "neither keys, times nor the sequence"),
        ({"aggregates": [Aggregate("merchant", "sum", over="1d")]}, "sum of 'merchant' is over string"),
        ({"aggregates": [Aggregate("amount", "count_distinct", over="1d")]}, "is over float64"),
        ({"aggregates": [Aggregate("*", "avg", over="1d")]}, "is not a number"),
        ({"aggregates": [Aggregate("nothing", "avg", over="1d")]}, "no column nothing"),
        ({"aggregates": [Aggregate("amount", "avg", over=["24h", "1d"])]}, "name of two features"),
        ({"aggregates": [Aggregate("amount", "avg", over="1d", name="a" * 47)]}, "too long"),
        ({"aggregates": []}, "no aggregates"),
    ],
)
def test_wrong_windows_are_one_sentence(more: dict, says: str) -> None:
    rows = pd.DataFrame({"who": ["a"], "at": [START], "number": [1], "amount": [1.0], "merchant": ["x"]})
    given = {"aggregates": [Aggregate("amount", "avg", over=["1h", "1d"])]} | more
    with pytest.raises(Invalid, match=says):
        view_of(rows, **given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"function": "median", "over": "1h"}, "function"),
        ({"function": "avg"}, "over"),
        ({"function": "avg", "over": "soon"}, "no duration"),
        ({"function": "avg", "over": "-1h"}, "no duration"),
        ({"function": "avg", "over": "9999999w"}, "over_s.0 is 6047999395200, and may be at most 1581120000"),
    ],
)
def test_wrong_aggregates_are_one_sentence(given: dict, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        Aggregate("amount", **given)


def test_definition_survives_json_and_what_is_computed_is_its_version() -> None:
    rows = pd.DataFrame({"who": ["a"], "at": [START], "number": [1], "amount": [1.0]})
    view = view_of(rows, aggregates=[Aggregate("amount", "avg", over="1h")])
    assert themisto.FeatureView.model_validate_json(view.model_dump_json()) == view
    assert themisto.FeatureView(**view.model_dump(mode="json")) == view
    said = view_of(
        rows,
        aggregates=[Aggregate("amount", "avg", over="1h")],
        features=[themisto.Feature("amount", personal=True, description="EUR")],
    )
    assert said.content_hash() == view.content_hash()
    assert said.features[0].personal
    others = [{"every": "1m"}, {"aggregates": [Aggregate("amount", "avg", over="2h")]}, {"sequence": None}]
    hashes = {
        view_of(rows, **({"aggregates": [Aggregate("amount", "avg", over="1h")]} | o)).content_hash() for o in others
    }
    assert len({view.content_hash(), *hashes}) == 4


def test_view_of_a_stream_needs_types_and_no_source(tmp_path: Path) -> None:
    customer = themisto.Entity("customer", keys=["who"])
    view = themisto.FeatureView(
        "spending",
        entity=customer,
        keys=[{"name": "who", "dtype": "int64"}],
        at="at",
        every="5m",
        sequence="number",
        features={"price": "decimal"},
        aggregates=[Aggregate("price", "sum", over="5m")],
    )
    assert [(f.name, f.dtype) for f in view.features] == [("sum_price_5m", "decimal")]
    store, table = SqliteStore(tmp_path / "online.db"), OnlineTable.of(view, "")
    store.ensure(table)
    write_rows(store, table, [("7", micros(START) - 1, 1, Decimal("2.50"))])
    assert Tiles(store, table).values(["7"], micros(START)) == [("7", micros(START), 0, Decimal("2.50"))]
    store.close()


def test_features_that_are_not_those_of_the_windows_are_refused() -> None:
    rows = pd.DataFrame({"who": ["a"], "at": [START], "number": [1], "amount": [1.0]})
    body = view_of(rows, aggregates=[Aggregate("amount", "avg", over="1h")]).model_dump(mode="json")
    body["features"][0]["name"] = "avg_amount_2h"
    with pytest.raises(Invalid, match="not those of its windows"):
        themisto.FeatureView.model_validate(body)
