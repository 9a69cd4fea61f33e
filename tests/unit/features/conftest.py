"""An embedded feature registry with a little weather in it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import themisto
from themisto.features.service import Features
from themisto.settings import Settings


@pytest.fixture
def weather_rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "origin": ["JFK", "JFK", "LGA", "JFK"],
            "time_hour": pd.to_datetime(
                ["2013-01-01 10:00", "2013-01-01 12:00", "2013-01-01 10:00", "2013-01-01 10:00"]
            ),
            "temp": [1.0, 3.0, 2.0, 1.5],
            "gusts": [True, False, True, True],
            "sky": ["clear", "rain", None, "cloud"],
        }
    )


@pytest.fixture
def airport() -> themisto.Entity:
    return themisto.Entity("airport", keys=["origin"])


@pytest.fixture
def weather(airport: themisto.Entity, weather_rows: pd.DataFrame) -> themisto.FeatureView:
    return themisto.FeatureView("weather", entity=airport, at="time_hour", ttl="3h", source=weather_rows)


@pytest.fixture
def features(tmp_path: Path) -> Features:
    return Features(Settings(url=None, home=tmp_path), None)


@pytest.fixture
def applied(features: Features, weather: themisto.FeatureView) -> Features:
    features.apply(weather, themisto.FeatureService("delay", features=["weather:temp", "weather:sky"]))
    return features
