"""Rows that go and come back, on a workbench whose online store is Cassandra: its tombstones hide none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd
import pytest
from tests.integration.features.conftest import Bench

import themisto
from themisto.features.service import Features

WEATHER = pd.DataFrame(
    {
        "origin": ["JFK", "JFK", "LGA"],
        "time_hour": pd.to_datetime(["2013-01-01 10:00", "2013-01-01 12:00", "2013-01-01 10:00"]),
        "known_at": pd.to_datetime(["2013-01-01 10:05", "2013-01-01 12:05", "2013-01-01 10:05"]),
        "temp": [1.0, 999.0, 2.0],
    }
)
MILD = themisto.Expect("temp", between=(-60, 60))
SERVICE = themisto.FeatureService("delay", features=["weather"])


@pytest.fixture(scope="module")
def bench(tmp_path_factory, free_base: Callable[[], int], cassandra_url: str) -> Iterator[Bench]:
    with Bench(tmp_path_factory.mktemp("state"), free_base(), online_store=cassandra_url) as bench:
        yield bench


@pytest.fixture
def features(bench: Bench, request: pytest.FixtureRequest) -> Features:
    group = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[-40:].strip("-")
    return bench.features(f"scientist-{group}", [group])


def weather(*expects: themisto.Expect, rows: pd.DataFrame = WEATHER, created: str | None = None, keep: int = 1):
    airport = themisto.Entity("airport", keys=["origin"])
    return themisto.FeatureView(
        "weather", entity=airport, at="time_hour", created=created, source=rows, expect=expects, online={"keep": keep}
    )


def online(features: Features) -> list[float]:
    return features.get("delay", origin=["JFK", "LGA"])["temp"].tolist()


@pytest.mark.parametrize("created", [None, "known_at"])
def test_a_row_of_a_quarantine_comes_back_when_the_view_expects_less(features: Features, created: str | None) -> None:
    features.apply(weather(created=created), SERVICE)
    features.materialize("weather")
    assert online(features) == [999.0, 2.0]
    features.apply(weather(MILD, created=created))
    features.materialize("weather")
    assert online(features) == [1.0, 2.0]
    features.apply(weather(created=created))
    features.materialize("weather")
    assert online(features) == [999.0, 2.0]


@pytest.mark.parametrize("created", [None, "known_at"])
def test_an_older_row_counts_where_a_newer_one_is_taken_out_of_the_file(
    features: Features, created: str | None
) -> None:
    features.apply(weather(rows=WEATHER[::2], created=created), SERVICE)
    features.materialize("weather")
    for rows, newest in ((WEATHER, 999.0), (WEATHER[::2], 1.0), (WEATHER, 999.0)):
        features.apply(weather(rows=rows, created=created))
        features.materialize("weather")
        assert online(features) == [newest, 2.0]


def test_of_several_rows_kept_the_others_stay_where_one_is_taken_out(features: Features) -> None:
    features.apply(weather(created="known_at", keep=3), SERVICE)
    features.materialize("weather")
    features.apply(weather(rows=WEATHER[1:], created="known_at", keep=3))
    features.materialize("weather")
    history = features.get("delay", origin=["JFK"], history=3)
    assert history["temp"].tolist() == [999.0]
    features.apply(weather(rows=WEATHER, created="known_at", keep=3))
    features.materialize("weather")
    assert features.get("delay", origin=["JFK"], history=3)["temp"].tolist() == [999.0, 1.0]


def test_a_value_that_was_wrong_is_put_right_under_its_old_created_time(features: Features) -> None:
    features.apply(weather(created="known_at"), SERVICE)
    features.materialize("weather")
    for right in (-5.0, 1000.0):
        features.apply(weather(rows=WEATHER.assign(temp=[1.0, right, 2.0]), created="known_at"))
        features.materialize("weather")
        assert online(features) == [right, 2.0]
