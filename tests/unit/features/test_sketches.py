"""Sketches say how values are spread, and nothing of one person."""

from __future__ import annotations

import math
from decimal import Decimal

import pandas as pd
import pytest

import themisto
from themisto.features.rowfile import write_parquet
from themisto.features.sketches import BINS, sketch

AT = pd.date_range("2026-03-01", periods=8, freq="h", tz="UTC")


def drawn(tmp_path, values, *, dtype="float64", personal=False):
    rows = pd.DataFrame({"id": range(len(values)), "at": AT[: len(values)], "x": values})
    feature = themisto.Feature("x", dtype=dtype, personal=personal)
    who = themisto.Entity("who", keys=["id"])
    view = themisto.FeatureView("v", entity=who, at="at", features=[feature], source=rows).with_version(3)
    path, _ = write_parquet(view, rows, tmp_path)
    found = sketch(view, path)
    assert (found.view, found.version, found.rows) == ("v", 3, len(values))
    return found.features[0]


def test_values_fall_into_bins_from_the_least_to_the_greatest(tmp_path):
    found = drawn(tmp_path, [0.0, 1.0, 1.0, 16.0, None])
    assert (found.least, found.greatest, found.nulls, found.distinct) == (0.0, 16.0, 1, 3)
    assert found.bins == (1, 2, *[0] * (BINS - 3), 1)


@pytest.mark.parametrize(
    ("values", "dtype", "in_bins"),
    [
        ([5, 5, 5], "int64", 3),
        ([True, False, True], "bool", 3),
        ([math.inf, -math.inf, 1.0, 2.0, math.nan], "float64", 2),
        ([-1.7e308, 1.7e308, 0.0], "float64", 3),
        ([1e-320, 0.0], "float64", 2),
        ([Decimal("1.5"), Decimal("2.5")], "decimal", 2),
        ([math.nan, math.nan], "float64", 0),
        ([], "float64", 0),
    ],
)
def test_every_finite_value_is_in_one_bin(tmp_path, values, dtype, in_bins):
    assert sum(drawn(tmp_path, values, dtype=dtype).bins) == in_bins


def test_of_texts_it_is_said_how_many_there_are_and_not_which(tmp_path):
    found = drawn(tmp_path, ["a", "b", "b", None], dtype="string")
    assert (found.distinct, found.nulls, found.bins, found.least) == (2, 1, (), None)
    assert "'a'" not in repr(found)


def test_of_what_is_personal_it_is_said_how_often_it_is_missing(tmp_path):
    found = drawn(tmp_path, [31000.0, None], personal=True)
    assert (found.personal, found.nulls) == (True, 1)
    assert (found.distinct, found.least, found.greatest, found.bins) == (None, None, None, ())
