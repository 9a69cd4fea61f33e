"""The point-in-time join, against an oracle that looks at every row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import themisto
from themisto.errors import Invalid
from themisto.features.join import point_in_time
from themisto.features.merging import merged
from themisto.features.resolve import resolve
from themisto.features.rowfile import write_parquet
from themisto.features.service import Features

START = datetime(2024, 3, 31, tzinfo=UTC)
moments = st.integers(-5, 30).map(lambda minutes: START + timedelta(minutes=minutes))
keys = st.sampled_from(["a", "b", "c"])
values = st.one_of(st.none(), st.integers(-9, 9))
events = st.lists(st.tuples(keys, st.integers(0, 2), moments, moments, values), max_size=25)
asked = st.lists(
    st.tuples(st.one_of(st.none(), keys), st.integers(0, 2), st.one_of(st.none(), moments), st.text(max_size=2)),
    max_size=15,
)


def oracle(row, rows, ttl_s, created, known):
    """Of the rows at or before the asked time the newest, of these the one created last, of these the last written."""
    who, number, when, _ = row
    best = None
    for key, n, at, made, value in rows:
        if when is None or key != who or n != number or at > when or (known and made > when):
            continue
        rank = (at, made) if created else (at,)
        if best is None or rank >= best[0]:
            best = (rank, value)
    if best is None or (ttl_s is not None and when - best[0][0] > timedelta(seconds=ttl_s)):
        return None
    return best[1]


@settings(max_examples=120, deadline=None)
@given(
    rows=events,
    entities=asked,
    ttl=st.sampled_from([None, 60, 300]),
    zone=st.sampled_from(["UTC", "Asia/Seoul", None]),
    created=st.booleans(),
    known=st.booleans(),
    in_memory=st.booleans(),
)
def test_join_answers_as_the_oracle_does(rows, entities, ttl, zone, created, known, in_memory):
    with mock.patch("themisto.features.join.merged", merged if in_memory else lambda *_, **__: None):
        answers_as_the_oracle_does(rows, entities, ttl, zone, created, known)


def answers_as_the_oracle_does(rows, entities, ttl, zone, created, known, **how):
    source = pd.DataFrame(rows, columns=["who", "number", "at", "made", "value"])
    source = source.astype({"who": "str", "number": "int64"})
    source["at"], source["made"] = pd.to_datetime(source["at"], utc=True), pd.to_datetime(source["made"], utc=True)
    source["value"] = source["value"].astype("Float64").astype("float64")
    frame = pd.DataFrame(entities, columns=["who", "number", "when", "note"]).astype({"number": "int64", "note": "str"})
    frame["who"] = frame["who"].astype("str").where(frame["who"].notna(), None)
    when = pd.to_datetime(frame["when"], utc=True)
    frame["when"] = when.dt.tz_convert(zone) if zone else when.dt.tz_localize(None)
    frame.index = pd.Index(range(7, 7 + len(frame)))
    view = themisto.FeatureView(
        "v",
        entity=themisto.Entity("whom", keys=["who", "number"]),
        at="at",
        created="made" if created else None,
        ttl=ttl,
        features=["value"],
        source=source,
    ).with_version(1)
    spec = resolve(themisto.FeatureService("s", features=["v"]), lambda _: view, version=1)
    with TemporaryDirectory() as folder:
        path, _ = write_parquet(view, source, Path(folder))
        joined = point_in_time(frame, "when", spec, {"v": path}, {"v": view}, known=known, **how)
    pd.testing.assert_frame_equal(joined[frame.columns], frame)
    found = [None if pd.isna(v) else int(v) for v in joined["value"]]
    assert found == [oracle(row, rows, ttl, created, known and created) for row in entities]


def test_join_never_looks_ahead(applied: Features) -> None:
    early = pd.DataFrame({"origin": ["JFK"], "time_hour": pd.to_datetime(["2013-01-01 09:59:59.999999"])})
    assert applied.historical(early, "delay")["temp"].isna().all()


def test_row_exactly_ttl_old_still_holds(applied: Features) -> None:
    frame = pd.DataFrame(
        {"origin": ["LGA"] * 2, "t": pd.to_datetime(["2013-01-01 13:00:00.000000", "2013-01-01 13:00:00.000001"])}
    )
    assert applied.historical(frame, "delay", at="t")["temp"].isna().tolist() == [False, True]


def test_last_written_wins_a_tie(applied: Features) -> None:
    frame = pd.DataFrame({"origin": ["JFK"], "time_hour": pd.to_datetime(["2013-01-01 11:00"], utc=True)})
    assert applied.historical(frame, "delay")[["temp", "sky"]].to_numpy().tolist() == [[1.5, "cloud"]]


def test_index_and_other_columns_stay(applied: Features) -> None:
    frame = pd.DataFrame(
        {
            "origin": ["LGA", "JFK"],
            "time_hour": pd.to_datetime(["2013-01-01 11:00"] * 2),
            "label": pd.Categorical(["y", "n"]),
        },
        index=["second", "first"],
    )
    joined = applied.historical(frame, "delay")
    assert joined.index.tolist() == ["second", "first"]
    assert joined["label"].dtype == "category"
    assert joined["temp"].tolist() == [2.0, 1.5]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        ({"time_hour": pd.to_datetime(["2013-01-01"])}, "no column origin"),
        ({"origin": ["JFK"], "time_hour": ["2013-01-01"]}, "not a time"),
        ({"origin": [1.5], "time_hour": pd.to_datetime(["2013-01-01"])}, "'origin' is double, not string"),
        ({"origin": ["JFK"], "time_hour": pd.to_datetime(["2013-01-01"]), "temp": [1]}, "already have temp"),
    ],
)
def test_wrong_entity_rows_are_told(applied: Features, frame: dict, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        applied.historical(pd.DataFrame(frame), "delay", at="time_hour")


def test_two_views_with_one_name_are_told_apart(
    features: Features, airport: themisto.Entity, weather_rows: pd.DataFrame
) -> None:
    views = [
        themisto.FeatureView(n, entity=airport, at="time_hour", features=["temp"], source=weather_rows)
        for n in ("near", "far")
    ]
    features.apply(*views, themisto.FeatureService("both", features=views))
    assert [c.name for c in features.service("both").columns] == ["near__temp", "far__temp"]
