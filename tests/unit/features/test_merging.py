"""Which joins are done by bisection in memory; what they answer is in `test_join`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import themisto
from themisto.features.join import point_in_time
from themisto.features.merging import merged
from themisto.features.resolve import resolve
from themisto.features.rowfile import write_parquet

START = datetime(2026, 3, 1, tzinfo=UTC)
HOURS = [START + timedelta(hours=n) for n in range(4)]


@pytest.fixture
def view() -> themisto.FeatureView:
    rows = pd.DataFrame({"id": [1, 1, 2, 2], "at": HOURS, "created": HOURS, "x": [1.0, 2.0, None, 4.0]})
    one = themisto.Entity("one", keys=["id"])
    return themisto.FeatureView("v", entity=one, at="at", created="created", features=["x"], source=rows).with_version(
        1
    )


@pytest.fixture
def file(view, tmp_path) -> Path:
    path, _ = write_parquet(view, view.source, tmp_path)
    return path


def of(view, file, ids=(1, 2, 3, None), **more):
    spec = resolve(themisto.FeatureService("s", features=["v"]), lambda _: view, version=1)
    keys = {"id": pa.array(ids, pa.int64())}
    when = pa.array([HOURS[-1]] * len(ids), pa.timestamp("us", "UTC"))
    return merged(keys, when, spec, {"v": file}, {"v": view}, **more)


def test_rows_sorted_as_they_are_written_are_looked_up(view, file):
    assert of(view, file)["x"].to_pylist() == [2.0, 4.0, None, None]


def test_no_rows_at_all_find_nothing(view, tmp_path):
    path, _ = write_parquet(view, view.source[:0], tmp_path)
    assert of(view, path)["x"].to_pylist() == [None] * 4
    assert of(view, path, ids=())["x"].to_pylist() == []


def test_what_memory_does_not_hold_is_left_to_sql(view, file):
    assert of(view, file, memory_bytes=100) is None


def test_rows_as_they_were_known_are_left_to_sql(view, file):
    assert of(view, file, known=True) is None


@pytest.mark.parametrize("order", [[1, 0, 2, 3], [0, 2, 1, 3], [2, 3, 0, 1]])
def test_rows_in_another_order_are_left_to_sql_and_answered_alike(view, file, tmp_path, order):
    moved = tmp_path / "moved.parquet"
    pq.write_table(pq.read_table(file).take(order), moved)
    assert of(view, moved) is None
    spec = resolve(themisto.FeatureService("s", features=["v"]), lambda _: view, version=1)
    spine = pd.DataFrame({"id": [1, 2, 3], "when": HOURS[-1]})
    assert point_in_time(spine, "when", spec, {"v": moved}, {"v": view})["x"].fillna(-1).tolist() == [2.0, 4.0, -1.0]
