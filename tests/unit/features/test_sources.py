"""Rows on their way in."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import themisto
from themisto.errors import Invalid
from themisto.features.dtypes import micros
from themisto.features.latest import latest
from themisto.features.online import Row
from themisto.features.records import ViewData
from themisto.features.rowfile import verify, write_parquet


def brought(view: themisto.FeatureView, path: Path, data: ViewData, **more) -> list[Row]:
    """Rows that would go online."""
    with latest(view, path, written_at=data.written_at, **more) as found:
        rows = [row for batch, _ in found.rows() for row in batch]
        assert len(rows) == len(found)
    return rows


def test_rows_are_sorted_unique_and_without_holes(weather: themisto.FeatureView, tmp_path: Path) -> None:
    holes = pd.DataFrame(
        {"origin": [None, "EWR"], "time_hour": [pd.Timestamp("2013-01-01"), pd.NaT], "temp": [1.0, 2.0]}
    )
    rows = pd.concat([weather.source, holes], ignore_index=True).astype({"gusts": "boolean"})
    path, data = write_parquet(weather, rows, tmp_path)
    table = pq.read_table(path)
    assert table["origin"].to_pylist() == ["JFK", "JFK", "LGA"]
    assert table["temp"].to_pylist() == [1.5, 3.0, 2.0]
    assert path.name == f"{data.sha256}.parquet"
    verify(weather, path)


def test_same_rows_have_the_same_digest(weather: themisto.FeatureView, tmp_path: Path) -> None:
    assert (
        write_parquet(weather, weather.source, tmp_path)[1].sha256
        == write_parquet(weather, weather.source, tmp_path)[1].sha256
    )


def test_parquet_file_is_a_source(airport: themisto.Entity, weather_rows: pd.DataFrame, tmp_path: Path) -> None:
    weather_rows.to_parquet(tmp_path / "w.parquet")
    view = themisto.FeatureView(
        "weather", entity=airport, at="time_hour", features=["temp"], source=tmp_path / "w.parquet"
    )
    assert write_parquet(view, view.source, tmp_path)[1].rows == 3


def test_foreign_parquet_is_not_taken_for_rows(weather: themisto.FeatureView, tmp_path: Path) -> None:
    path, _ = write_parquet(weather, weather.source, tmp_path)
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]), tmp_path / "double.parquet")
    pq.write_table(table.drop(["sky"]), tmp_path / "less.parquet")
    (tmp_path / "none.parquet").write_bytes(b"PAR1 not really PAR1")
    for name, says in (("double", "doubles"), ("less", "columns"), ("none", "no Parquet")):
        with pytest.raises(Invalid, match=says):
            verify(weather, tmp_path / f"{name}.parquet")


def test_newest_row_of_each_key_with_its_nulls(airport: themisto.Entity, tmp_path: Path) -> None:
    rows = pd.DataFrame({"origin": ["A", "A"], "at": pd.to_datetime(["2024-01-01", "2024-01-02"]), "x": [1.0, None]})
    view = themisto.FeatureView("v", entity=airport, at="at", source=rows)
    path, data = write_parquet(view, rows, tmp_path)
    [row] = brought(view, path, data)
    assert row == ("A", 1704153600000000, micros(data.written_at), None)


def test_newest_rows_of_a_history_the_last_created_of_each_time(airport: themisto.Entity, tmp_path: Path) -> None:
    day = [pd.Timestamp(2024, 1, n) for n in range(10)[1:]]
    rows = pd.DataFrame(
        {
            "origin": ["A", "A", "A", "A", "B"],
            "at": [day[1], day[2], day[2], day[3], day[1]],
            "made": [day[1], day[5], day[4], day[3], day[7]],
            "x": [1, 25, 24, 3, 9],
        }
    )
    view = themisto.FeatureView("v", entity=airport, at="at", created="made", online={"keep": 2}, source=rows)
    path, data = write_parquet(view, rows, tmp_path)
    verify(view, path)
    assert data.rows == 5
    assert [(row[0], row[3]) for row in brought(view, path, data)] == [("A", 3), ("A", 25), ("B", 9)]


ODD = pa.table(
    {
        "who": ["a", "b"],
        "at": pa.array([0, 1], pa.timestamp("s")),
        "born": pa.array(
            [datetime(1901, 2, 3, tzinfo=UTC), datetime(2300, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC")
        ),
        "balance": pa.array([Decimal("12.345"), None], pa.decimal128(12, 3)),
        "embedding": pa.array([[0.5, 1.5], [2.0, None]], pa.list_(pa.float32(), 2)),
        "days": pa.array([[1, 2], []], pa.list_(pa.int16())),
    }
)


def test_times_decimals_and_lists_come_through(tmp_path: Path) -> None:
    view = themisto.FeatureView("v", entity=themisto.Entity("e", keys=["who"]), at="at", source=ODD)
    assert [f.dtype for f in view.features] == ["timestamp", "decimal", "list[float32]", "list[int64]"]
    path, data = write_parquet(view, ODD, tmp_path)
    verify(view, path)
    a, b = brought(view, path, data)
    assert a[3:] == (micros(datetime(1901, 2, 3, tzinfo=UTC)), Decimal("12.345"), [0.5, 1.5], [1, 2])
    assert b[3:] == (micros(datetime(2300, 1, 1, tzinfo=UTC)), None, [2.0, None], [])


def test_polars_is_a_source_too(weather_rows: pd.DataFrame, airport: themisto.Entity, tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.from_pandas(weather_rows)
    for source in (frame, frame.lazy()):
        view = themisto.FeatureView("weather", entity=airport, at="time_hour", source=source)
        assert [f.dtype for f in view.features] == ["float64", "bool", "string"]
        assert write_parquet(view, source, tmp_path)[1].rows == 3


def test_an_empty_value_that_may_not_be_is_told(airport: themisto.Entity, weather_rows: pd.DataFrame, tmp_path) -> None:
    sky = {"name": "sky", "nullable": False}
    view = themisto.FeatureView("weather", entity=airport, at="time_hour", features=[sky], source=weather_rows)
    with pytest.raises(Invalid, match="'sky' has 1 empty values"):
        write_parquet(view, weather_rows, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_what_differs_goes_online_and_what_is_no_more_goes(airport: themisto.Entity, tmp_path: Path) -> None:
    def rows(*given: tuple[str, int, float]) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "origin": [who for who, _, _ in given],
                "at": [pd.Timestamp(2024, 1, day) for _, day, _ in given],
                "x": [value for _, _, value in given],
            }
        )

    before = rows(("same", 1, 1.0), ("newer", 1, 1.0), ("other", 1, 1.0), ("older", 2, 1.0), ("gone", 1, 1.0))
    after = rows(
        ("same", 1, 1.0), ("newer", 1, 1.0), ("newer", 2, 2.0), ("other", 1, 3.0), ("older", 1, 4.0), ("late", 1, 5.0)
    )
    view = themisto.FeatureView("v", entity=airport, at="at", source=before)
    base, _ = write_parquet(view, before, tmp_path)
    path, data = write_parquet(view, after, tmp_path)
    with latest(view, path, written_at=data.written_at, base=base) as found:
        assert found.gone() == ["gone", "older"]
        assert found.entities == 5
        assert found.reached == datetime(2024, 1, 2, tzinfo=UTC)
    everything = brought(view, path, data, base=base)
    assert [(row[0], row[3]) for row in everything] == [("late", 5.0), ("older", 4.0), ("newer", 2.0), ("other", 3.0)]
    assert brought(view, path, data, base=path) == []
    with latest(view, path, written_at=data.written_at, base=base) as found:
        assert [(len(batch), new) for batch, new in found.rows()] == [(2, True), (2, False)]
        assert list(found.rows(skip=1)) == [(everything[1:2], True), (everything[2:], False)]
        assert list(found.rows(skip=3)) == [(everything[3:], False)]
    for first in (True, False):
        with latest(view, path, written_at=data.written_at, first=first) as found:
            assert [(len(batch), new) for batch, new in found.rows()] == [(5, first)]
