"""Spines of every kind have one answer, in their own kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import themisto
from themisto.errors import Invalid, NotFound
from themisto.features.service import Features

WANTED = [2.0, None, 1.5, 2.0]


@pytest.fixture
def spine() -> pd.DataFrame:
    hours = pd.to_datetime(["2013-01-01 12:00"] * 4).tz_localize("Europe/Berlin")
    return pd.DataFrame({"origin": ["LGA", "XXX", "JFK", "LGA"], "time_hour": hours, "late": [4, 3, 2, 1]})


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (lambda frame, _: frame, pd.DataFrame),
        (lambda frame, _: pl.from_pandas(frame), pl.DataFrame),
        (lambda frame, _: pl.from_pandas(frame).lazy(), pl.DataFrame),
        (lambda frame, _: pa.table(frame), pa.Table),
        (lambda frame, _: pa.RecordBatch.from_pandas(frame), pa.Table),
        (lambda frame, _: pa.table(frame).to_reader(max_chunksize=1), pa.Table),
        (lambda _, path: path, pa.Table),
        (lambda _, path: str(path), pa.Table),
        (lambda *_: "SELECT * FROM spine", pd.DataFrame),
    ],
    ids=["pandas", "polars", "lazy", "table", "batch", "reader", "path", "text", "sql"],
)
@pytest.mark.parametrize("to_file", [False, True], ids=["here", "to-file"])
def test_rows_keep_order_and_number_in_every_kind(applied: Features, spine, tmp_path, given, kind, to_file) -> None:
    spine.to_parquet(tmp_path / "spine.parquet")
    to = tmp_path / "train.parquet" if to_file else None
    asked = given(spine, tmp_path / "spine.parquet")
    found = applied.historical(asked, "delay", frames={"spine": spine}, to=to)
    if to_file:
        assert found == to
        found, kind = pq.read_table(to), pa.Table
    assert isinstance(found, kind)
    table = found if kind is pa.Table else pa.table(found)
    assert table.column_names == ["origin", "time_hour", "late", "temp", "sky"]
    assert [None if v != v else v for v in table["temp"].to_pylist()] == WANTED
    assert table["late"].to_pylist() == [4, 3, 2, 1]
    assert not list(tmp_path.glob(".*draft"))


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_a_file_is_joined_part_by_part(applied: Features, tmp_path, monkeypatch, rows) -> None:
    monkeypatch.setattr("themisto.features.spines._ROWS", 2)
    monkeypatch.setattr("themisto.features.join._ROWS", 3)
    hours = pd.date_range("2013-01-01 11:00", periods=rows, freq="h", tz="UTC", unit="us")
    frame = pd.DataFrame({"origin": pd.Series(["JFK"] * rows, dtype="str"), "time_hour": hours, "row": range(rows)})
    frame.to_parquet(tmp_path / "spine.parquet")
    whole = applied.historical(frame, "delay")
    path = applied.historical(tmp_path / "spine.parquet", "delay", to=tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(path), whole, check_dtype=bool(rows))


def test_a_result_stopped_by_a_mistake_leaves_no_file(applied: Features, tmp_path) -> None:
    (tmp_path / "out.parquet").write_text("before")
    pd.DataFrame({"origin": [1.5], "time_hour": pd.to_datetime(["2013"])}).to_parquet(tmp_path / "spine.parquet")
    with pytest.raises(Invalid, match="'origin' is double, not string"):
        applied.historical(tmp_path / "spine.parquet", "delay", to=tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_text() == "before"
    assert sorted(p.name for p in tmp_path.glob("*.parquet")) == ["out.parquet", "spine.parquet"]


@pytest.mark.parametrize(
    ("to", "error", "says"),
    [("nowhere/out.parquet", Invalid, "no folder"), ("spine.parquet", Invalid, "is the spine itself")],
)
def test_a_place_where_no_result_can_be_is_told(applied: Features, spine, tmp_path, to, error, says) -> None:
    spine.to_parquet(tmp_path / "spine.parquet")
    with pytest.raises(error, match=says):
        applied.historical(tmp_path / "spine.parquet", "delay", to=tmp_path / to)


@pytest.mark.parametrize("given", [None, [1], {"origin": "JFK"}, 7])
def test_what_is_no_spine_is_told(applied: Features, given) -> None:
    with pytest.raises(Invalid, match="is no source"):
        applied.historical(given, "delay", at="time_hour")


@pytest.mark.parametrize("path", [Path("nowhere.parquet"), "nowhere.parquet"])
def test_a_file_that_is_not_there_is_named(applied: Features, path) -> None:
    with pytest.raises(NotFound, match=r"no file 'nowhere\.parquet'"):
        applied.historical(path, "delay")


def test_keys_of_several_columns_in_every_kind(features: Features) -> None:
    times = pd.to_datetime(["2013-01-01"] * 3, utc=True)
    rows = pd.DataFrame({"a": ["x", "x", "y"], "b": [1, 2, 1], "at": times, "v": [1.0, 2.0, 3.0]})
    pair = themisto.Entity("pair", keys=["a", "b"])
    view = themisto.FeatureView("pairs", entity=pair, at="at", source=rows)
    features.apply(view, themisto.FeatureService("s", features=["pairs"]))
    at = pa.array([times[0]] * 4, pa.timestamp("us", "UTC"))
    spine = pa.table({"b": [1, 2, 1, None], "a": ["y", "x", "x", "x"], "at": at})
    assert features.historical(spine, "s")["v"].to_pylist() == [3.0, 2.0, 1.0, None]
    assert features.historical(pl.from_arrow(spine), "s")["v"].to_list() == [3.0, 2.0, 1.0, None]


@pytest.mark.parametrize("to_file", [False, True])
def test_on_demand_features_are_computed_of_a_file_too(features: Features, weather, spine, tmp_path, to_file) -> None:
    warmer = themisto.OnDemand("warmer", "temp + late", request={"late": "int64"})
    features.apply(weather, themisto.FeatureService("delay", features=["weather:temp"], on_demand=[warmer]))
    spine.to_parquet(tmp_path / "spine.parquet")
    to = tmp_path / "out.parquet" if to_file else None
    found = features.historical(tmp_path / "spine.parquet", "delay", to=to)
    table = pq.read_table(to) if to_file else found
    assert table["warmer"].to_pylist() == [6.0, None, 3.5, 3.0]


def test_polars_is_not_imported_where_it_is_not_used(tmp_path) -> None:
    code = (
        "import sys, pandas as pd, themisto\n"
        "from themisto.features.service import Features\nfrom themisto.settings import Settings\n"
        "from pathlib import Path\n"
        f"f = Features(Settings(url=None, home=Path({str(tmp_path)!r})), None)\n"
        "rows = pd.DataFrame({'k': ['a'], 'at': pd.to_datetime(['2013-01-01']), 'v': [1.0]})\n"
        "v = themisto.FeatureView('v', entity=themisto.Entity('e', keys=['k']), at='at', source=rows)\n"
        "f.apply(v, themisto.FeatureService('s', features=['v']))\n"
        "assert f.historical(rows[['k', 'at']], 's')['v'].tolist() == [1.0]\n"
        "assert 'polars' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
