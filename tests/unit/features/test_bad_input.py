"""Bad input, as a table: each is one sentence that names the thing, and nothing is half-written."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime

import pandas as pd
import pytest

import themisto
from themisto.errors import Invalid, NotFound
from themisto.features.rowfile import MAX_KEY_BYTES, MAX_TEXT_BYTES, sweep
from themisto.features.service import Features

SPINE = pd.DataFrame({"origin": ["JFK"], "time_hour": pd.to_datetime(["2013-01-01 13:00"], utc=True)})
EVENT = {"origin": ["JFK"], "time_hour": pd.to_datetime(["2013-01-02"], utc=True), "temp": [9.0], "gusts": [True]}


def event(**other) -> pd.DataFrame:
    return pd.DataFrame(EVENT | {"sky": ["clear"]} | other)


def service(*features: str) -> themisto.FeatureService:
    return themisto.FeatureService("other", features=list(features))


UNKNOWN = {
    "view shown": (lambda f: f.show("wether"), "no feature view 'wether'", "weather"),
    "view pushed to": (lambda f: f.push("wether", event()), "no feature view 'wether'", "weather"),
    "view materialized": (lambda f: f.materialize("wether"), "no feature view 'wether'", "weather"),
    "view of quarantine": (lambda f: f.quarantine("wether"), "no feature view 'wether'", "weather"),
    "view in a service": (lambda f: f.apply(service("wether:temp")), "no feature view 'wether'", "weather"),
    "feature in a service": (lambda f: f.apply(service("weather:tmp")), "'weather' has no feature 'tmp'", "temp"),
    "service joined": (lambda f: f.historical(SPINE, "dely"), "no feature service 'dely'", "delay"),
    "service read": (lambda f: f.get("dely", origin="JFK"), "no feature service 'dely'", "delay"),
    "service checked": (lambda f: f.check("dely"), "no feature service 'dely'", "delay"),
    "entity": (lambda f: f.registry.entity("airprt"), "no entity 'airprt'", "airport"),
    "entity erased": (lambda f: f.erase("airprt", origin="x"), "is about 'airprt'", "airport"),
}


@pytest.mark.parametrize(("call", "says", "near"), UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_name_is_told_with_the_nearest(applied: Features, call, says, near) -> None:
    before = applied.list()
    with pytest.raises(NotFound, match=says) as told:
        call(applied)
    assert told.value.remedy == f"Did you mean {near}?"
    assert applied.list() == before


def test_a_version_that_is_not_there_is_no_typo(applied: Features) -> None:
    with pytest.raises(NotFound, match="no feature service 'delay@9'"):
        applied.service("delay@9")


PUSHED = {
    "another type": (event(temp=["warm"]), "'temp' is .*, not float64"),
    "numbers for text": (event(sky=[1]), "'sky' is int64, not string"),
    "a number for a bool": (event(gusts=["yes"]), "'gusts' is .*, not bool"),
    "text as time": (event(time_hour=["2013-01-02"]), "'time_hour' is .*, not a time"),
    "a number as time": (event(time_hour=[1]), "'time_hour' is int64, not a time"),
    "no time": (event().drop(columns="time_hour"), "no column time_hour"),
    "no key": (event().drop(columns="origin"), "no column origin"),
    "bytes": (event(temp=[1.0]).astype(object).assign(temp=[b"x"]), "'temp' is of type binary"),
    "two columns of a name": (pd.concat([event(), event()[["temp"]]], axis=1), "more than one column temp"),
    "a key too long": (event(origin=["é" * (MAX_KEY_BYTES // 2 + 1)]), "'origin' of 4,098 bytes; it may have 4,096"),
    "a text too long": (event(sky=["x" * (MAX_TEXT_BYTES + 1)]), "'sky' of 1,048,577 bytes; it may have 1,048,576"),
}


@pytest.mark.parametrize(("rows", "says"), PUSHED.values(), ids=PUSHED)
@pytest.mark.parametrize("way", ["push", "apply"])
def test_rows_that_do_not_fit_are_told_and_none_is_kept(applied: Features, weather, rows, says, way) -> None:
    before = applied.show("weather").data
    with pytest.raises(Invalid, match=says) as told:
        applied.push("weather", rows) if way == "push" else applied.registry.put_rows(weather.with_version(1), rows)
    assert told.value.remedy
    assert applied.show("weather").data == before
    folder = applied.registry._rows._folder("weather")
    assert [p.stem for p in folder.iterdir()] == [before.sha256]


HOLES = {
    "an event without time": ("time_hour", pd.to_datetime([None, "2013-01-02"], utc=True)),
    "an event of nobody": ("origin", [None, "JFK"]),
}


@pytest.mark.parametrize(("column", "values"), HOLES.values(), ids=HOLES)
def test_a_push_with_holes_is_refused_and_a_source_is_taken_without_them(applied, weather, column, values) -> None:
    rows = pd.concat([event(), event()]).assign(**{column: values})
    before = applied.show("weather").data
    with pytest.raises(Invalid, match=f"1 of 2 rows have no '{column}'; none was pushed") as told:
        applied.push("weather", rows)
    assert told.value.remedy == "Drop them, or say of whom and when they are."
    assert applied.show("weather").data == before
    assert applied.registry.put_rows(weather.with_version(1), rows).rows == 1


DEFINED = {
    "a name that is none": (lambda e, r: view(e, r, name="Weather"), "name 'Weather' is no identifier", "lower-case"),
    "an entity's name": (lambda e, r: view("airport", r), "'airport' is no Entity", "themisto.Entity"),
    "an option that is none": (lambda e, r: view(e, r, tl="3h"), "FeatureView has no 'tl'", "Did you mean ttl"),
    "a ttl that is none": (lambda e, r: view(e, r, ttl="3 parsecs"), "'3 parsecs' is no duration", "3h, 7d"),
    "a ttl of nothing": (lambda e, r: view(e, r, ttl=0), "ttl is 0, and must be more than 0", "no limit"),
    "a time that is not there": (lambda e, r: view(e, r, at="time"), "no column time", "It has origin"),
    "a file that is not there": (lambda e, r: view(e, "none.parquet"), "no file 'none.parquet'", "path"),
    "no source": (lambda e, r: view(e, [1, 2]), "A list is no source", "DataFrame"),
    "no features": (lambda e, r: service(), "features names nothing", "help"),
    "no keys": (lambda e, r: themisto.Entity("airport", keys=[]), "keys names nothing", "help"),
    "half a reference": (lambda e, r: service("weather:"), "'weather:' is no identifier", "lower-case"),
}


def view(entity, rows, *, name="weather", at="time_hour", **more) -> themisto.FeatureView:
    return themisto.FeatureView(name, entity=entity, at=at, source=rows, **more)


@pytest.mark.parametrize(("define", "says", "remedy"), DEFINED.values(), ids=DEFINED)
def test_a_definition_that_is_none_is_told_with_what_to_do(airport, weather_rows, define, says, remedy) -> None:
    with pytest.raises((Invalid, NotFound), match=says) as told:
        define(airport, weather_rows)
    assert remedy in told.value.remedy


def test_one_feature_of_a_service_needs_no_list() -> None:
    assert themisto.FeatureService("s", features="weather").features == ("weather",)


def test_text_as_long_as_it_may_be_is_taken(applied: Features) -> None:
    long = event(origin=["k" * MAX_KEY_BYTES], sky=["x" * MAX_TEXT_BYTES])
    applied.push("weather", long)
    assert applied.get("delay", origin="k" * MAX_KEY_BYTES)["sky"].tolist() == ["x" * MAX_TEXT_BYTES]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_a_float_that_is_no_number_is_missing_online_and_as_it_is_offline(applied: Features, value) -> None:
    applied.push("weather", event(temp=pd.Series([value], dtype="float64")))
    assert applied.get("delay", origin="JFK")["temp"].isna().all()
    (found,) = applied.historical(SPINE.assign(time_hour=EVENT["time_hour"]), "delay")["temp"]
    assert (found == value) or (math.isnan(found) and (value is None or math.isnan(value)))


@pytest.mark.parametrize(
    "when",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1677, 9, 20, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2262, 4, 12, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
    ids=lambda when: str(when.year),
)
def test_days_before_1970_and_after_2262_are_days_like_others(features: Features, airport, when) -> None:
    far = pd.DataFrame({"origin": ["FAR"], "t": pd.Series([when], dtype="datetime64[us, UTC]"), "v": [1.0]})
    view = themisto.FeatureView("far", entity=airport, at="t", source=far)
    features.apply(view, themisto.FeatureService("s", features=["far"]))
    features.materialize("far")
    assert features.historical(far[["origin", "t"]], "s")["v"].tolist() == [1.0]
    assert features.get("s", origin="FAR")["event_time"].tolist() == [when]


def test_a_nanosecond_before_1970_does_not_see_1970(features: Features, airport) -> None:
    rows = pd.DataFrame({"origin": ["A"], "t": pd.to_datetime(["1970-01-01"], utc=True), "v": [1.0]})
    view = themisto.FeatureView("v", entity=airport, at="t", source=rows)
    features.apply(view, themisto.FeatureService("s", features=["v"]))
    before = pd.DataFrame({"origin": ["A"], "t": pd.DatetimeIndex([-1], dtype="datetime64[ns]").tz_localize("UTC")})
    assert features.historical(before, "s")["v"].isna().all()


def test_naive_times_are_utc(applied: Features) -> None:
    naive = SPINE.assign(time_hour=SPINE["time_hour"].dt.tz_localize(None))
    assert applied.historical(naive, "delay")["temp"].tolist() == applied.historical(SPINE, "delay")["temp"].tolist()


def test_of_doubles_of_one_time_the_last_stays(features: Features, airport) -> None:
    rows = pd.concat([event(temp=[n]) for n in (1.0, 3.0, 2.0)])
    view = themisto.FeatureView("v", entity=airport, at="time_hour", source=rows)
    assert features.apply(view, service("v"))[0].thing.data.rows == 1
    assert features.historical(SPINE.assign(time_hour=EVENT["time_hour"]), "other")["temp"].tolist() == [2.0]


SPINES = {
    "without time": (SPINE[["origin"]], "not clear which column is the time"),
    "without columns": (pd.DataFrame(), "not clear which column is the time"),
    "with two times": (SPINE.rename(columns={"time_hour": "a"}).assign(b=SPINE["time_hour"]), "There are a, b"),
    "with text as time": (SPINE.assign(time_hour="2013"), "'time_hour' is .*, not a time"),
    "without key": (SPINE[["time_hour"]], "no column origin"),
    "with its key in the index": (SPINE.set_index("origin"), "no column origin"),
    "with a name twice": (pd.concat([SPINE, SPINE], axis=1), "more than one column origin, time_hour"),
    "with a feature's name": (SPINE.assign(temp=1), "already have temp"),
}


@pytest.mark.parametrize(("spine", "says"), SPINES.values(), ids=SPINES)
def test_a_spine_that_cannot_be_joined_is_told(applied: Features, spine, says) -> None:
    with pytest.raises(Invalid, match=says):
        applied.historical(spine, "delay")


@pytest.mark.parametrize("spine", [SPINE.head(0), pd.DataFrame(columns=["origin", "time_hour"])])
def test_an_empty_spine_gives_an_empty_answer(applied: Features, spine) -> None:
    found = applied.historical(spine, "delay")
    assert list(found.columns) == ["origin", "time_hour", "temp", "sky"]
    assert len(found) == 0


def test_days_are_times(applied: Features) -> None:
    spine = pd.DataFrame({"origin": ["JFK"], "day": [date(2013, 1, 1)]})
    assert applied.historical(spine, "delay", at="day")["temp"].isna().all()


def test_a_definition_run_twice_is_one(applied: Features, weather) -> None:
    (again,) = applied.apply(weather)
    assert again.change.effect == "nothing"
    assert again.thing.view.version == 1
    assert again.thing.data.rows == 3


def test_a_service_before_its_view_is_told_and_after_it_is_there(features: Features, weather) -> None:
    early = themisto.FeatureService("delay", features=["weather:temp"])
    with pytest.raises(NotFound, match="no feature view 'weather'"):
        features.apply(early)
    assert features.list() == ([], [])
    features.apply(early, weather)
    assert features.service("delay").version == 1


def test_a_type_that_changes_is_a_version_and_the_old_service_is_told(applied: Features, weather_rows, airport) -> None:
    rows = weather_rows.assign(temp=["warm"] * 4)
    changed = themisto.FeatureView("weather", entity=airport, at="time_hour", ttl="3h", source=rows)
    assert applied.apply(changed)[0].thing.view.version == 2
    with pytest.raises(
        Invalid, match=r"delay@1 reads weather:temp \(float64\), and version 2 of the view has it as string"
    ):
        applied.historical(SPINE, "delay")


def test_drafts_of_the_killed_are_swept_and_of_the_living_are_not(tmp_path) -> None:
    import os

    for name in ("old.draft", "young.draft", "old.parquet"):
        (tmp_path / name).write_text("")
    for name in ("drafts-old", "drafts-young"):
        (tmp_path / name).mkdir()
    for name in ("old.draft", "old.parquet", "drafts-old"):
        os.utime(tmp_path / name, (0, 0))
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drafts-young", "old.parquet", "young.draft"]
