"""What a view expects: how it is written, and how mistakes in it are told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pandas as pd
import pytest

import themisto
from themisto.errors import Invalid
from themisto.features.expectations import rules_of
from themisto.features.models import FeatureView


@pytest.mark.parametrize(
    ("given", "share"), [("<= 5%", 0.05), ("5 %", 0.05), ("<=0.5", 0.5), (0.05, 0.05), (0, 0.0), ("0%", 0.0)]
)
def test_a_share_of_nulls_is_read(given: Any, share: float) -> None:
    assert themisto.Expect("temp", nulls=given).nulls == pytest.approx(share)


@pytest.mark.parametrize(
    ("said", "tells"),
    [
        ({}, "expects nothing"),
        ({"between": (None, None)}, "no bound"),
        ({"between": (float("nan"), 1)}, "is no number"),
        ({"between": (1,)}, "between"),
        ({"matches": "("}, "pattern cannot be read"),
        ({"matches": ""}, "matches"),
        ({"nulls": "a few"}, "no share of nulls"),
        ({"nulls": 1.5}, "nulls"),
        ({"among": [None]}, "among"),
    ],
)
def test_what_is_no_expectation_is_told(said: dict, tells: str) -> None:
    with pytest.raises(Invalid, match=tells):
        themisto.Expect("temp", **said)


@pytest.mark.parametrize(
    ("expect", "tells"),
    [
        (themisto.Expect("temprature", between=(0, 1)), "'temprature', which it does not have"),
        (themisto.Expect("sky", between=(0, 1)), "'sky' is string"),
        (themisto.Expect("temp", matches="a"), "a pattern is for text"),
        (themisto.Expect("temp", among=["a"]), "does not fit"),
        (themisto.Expect("temp", between=(2, 1)), "nothing is between 2 and 1"),
        (themisto.Expect("gusts", between=(0, 1)), "does not fit"),
    ],
)
def test_an_expectation_that_does_not_fit_its_column_is_told(
    airport: themisto.Entity, weather_rows: pd.DataFrame, expect: themisto.Expect, tells: str
) -> None:
    with pytest.raises(Invalid, match=tells):
        FeatureView("weather", entity=airport, at="time_hour", source=weather_rows, expect=[expect])


def test_of_lists_only_nulls_can_be_expected(airport: themisto.Entity, weather_rows: pd.DataFrame) -> None:
    rows = weather_rows.assign(embedding=[[1.0, 2.0]] * 4)
    said: dict[str, Any] = {"entity": airport, "at": "time_hour", "source": rows}
    FeatureView("w", **said, expect=[themisto.Expect("embedding", nulls=0)])
    with pytest.raises(Invalid, match="of lists"):
        FeatureView("w", **said, expect=[themisto.Expect("embedding", unique=True)])


def test_it_says_of_a_view_and_makes_no_version(weather: FeatureView) -> None:
    asking = weather.model_copy(update={"expect": (themisto.Expect("temp", between=(-60, 60)),)})
    assert asking.content_hash() == weather.content_hash()
    assert rules_of(asking.expect) != rules_of(weather.expect) == ""


def test_it_survives_json(airport: themisto.Entity, weather_rows: pd.DataFrame) -> None:
    rows = weather_rows.assign(price=Decimal("1.5"))
    expects = [
        themisto.Expect("temp", between=(-60, 60.5), nulls="<= 5%"),
        themisto.Expect("gusts", among=[True]),
        themisto.Expect("price", between=(Decimal("0.1"), None)),
        themisto.Expect("sky", matches="[a-z]+", unique=True),
    ]
    view = FeatureView("w", entity=airport, at="time_hour", source=rows, expect=expects)
    again = FeatureView.model_validate_json(view.model_dump_json())
    assert again == view
    assert rules_of(again.expect) == rules_of(view.expect)
