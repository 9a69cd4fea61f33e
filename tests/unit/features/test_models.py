"""Definitions: what may be written, and how mistakes are told."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import themisto
from themisto.errors import Invalid
from themisto.features.models import FeatureView
from themisto.features.nouns import seconds, split_ref


def test_types_come_from_the_source(weather: FeatureView) -> None:
    assert {f.name: f.dtype for f in weather.features} == {"temp": "float64", "gusts": "bool", "sky": "string"}
    assert weather.ttl_s == 10800


def test_definition_survives_json(weather: FeatureView) -> None:
    again = FeatureView.model_validate_json(weather.model_dump_json())
    assert again == weather
    assert again.source is None


def test_same_definition_has_the_same_hash(weather: FeatureView) -> None:
    assert weather.content_hash() == weather.with_version(7).content_hash()


@pytest.mark.parametrize("name", ["Weather", "we-ather", 'w"; drop', "w" * 49, "1w", ""])
def test_name_that_is_no_identifier_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="no identifier"):
        themisto.Entity(name, keys=["k"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"at": "temp"}, "'temp' is not a time"),
        ({"features": ["temperature"]}, "no column temperature"),
        ({"features": ["origin"]}, "origin is named twice"),
        ({"ttl": "3 fortnights"}, "no duration"),
        ({"source": None}, "types of its features are not known"),
        ({"entity": themisto.Entity("spot", keys=["temp"]), "features": ["sky"]}, "keys do not fit"),
    ],
)
def test_wrong_view_is_told(airport: themisto.Entity, weather_rows: pd.DataFrame, change: dict, says: str) -> None:
    good = {"entity": airport, "at": "time_hour", "features": ["temp"], "source": weather_rows}
    with pytest.raises(Invalid, match=says):
        themisto.FeatureView("weather", **good | change)


def test_column_of_no_usable_type_is_refused(airport: themisto.Entity, weather_rows: pd.DataFrame) -> None:
    rows = weather_rows.assign(odd=[{"a": 1}] * 4)
    with pytest.raises(Invalid, match="'odd' is of type struct"):
        themisto.FeatureView("weather", entity=airport, at="time_hour", source=rows)


def test_what_is_only_said_makes_no_new_version(airport: themisto.Entity, weather_rows: pd.DataFrame) -> None:
    def view(**more: Any) -> FeatureView:
        return FeatureView("weather", entity=airport, at="time_hour", source=weather_rows, **more)

    temp = themisto.Feature("temp", personal=True, description="°C", tags=["measured"])
    said = view(
        features=[temp, "gusts", "sky"], owner="data", tags=["hourly"], fresh="2h", online={"keep": 3}, description="x"
    )
    assert said.features[0].personal
    assert said.content_hash() == view().content_hash()
    meant = [{"ttl": "1h"}, {"features": ["temp"]}, {"features": [{"name": "temp", "nullable": False}, "gusts", "sky"]}]
    assert len({view(**change).content_hash() for change in meant} | {view().content_hash()}) == 4


@pytest.mark.parametrize("ref", ["delay@", "delay@0", "delay@x", "delay@-1"])
def test_wrong_reference_is_refused(ref: str) -> None:
    with pytest.raises(Invalid, match="NAME@VERSION"):
        split_ref(ref)


def test_durations() -> None:
    assert [seconds(d) for d in ("90s", "1.5h", "2d", 5, None)] == [90, 5400, 172800, 5, None]
