"""Versions from the notebook: what breaks callers is said before anything is stored, and a version takes it."""

from __future__ import annotations

import pytest

from themisto.errors import Conflict, NotFound


@pytest.fixture
def narrow(numbers, late):
    """A model of two of the three columns: callers of the first would send one that it does not know."""
    import lightgbm as lgb

    return lgb.LGBMClassifier(n_estimators=3, verbose=-1).fit(numbers[["hour", "dist"]], late)


@pytest.fixture
def credit(serving, booster, numbers):
    serving.deploy("credit", booster, numbers, strategy="replace")


def test_a_model_that_breaks_callers_is_refused_before_anything_is_stored(serving, plane, credit, narrow, numbers):
    stored = len(plane.artifacts)
    with pytest.raises(Conflict, match="break those who call credit@1: the input 'temp' is gone") as error:
        serving.deploy("credit", narrow, numbers)
    assert "--new-version" in error.value.remedy
    assert (len(plane.releases["credit"]), len(plane.artifacts)) == (1, stored)


def test_a_dry_run_says_it_too(serving, credit, narrow, numbers):
    with pytest.raises(Conflict, match="'temp' is gone"):
        serving.deploy("credit", narrow, numbers, dry_run=True)


def test_a_new_version_answers_beside_the_first(serving, credit, booster, narrow, numbers):
    outcome, _ = serving.deploy("credit", narrow, numbers, new_version=True)
    assert str(outcome.release) == "credit.v2@1"
    asked = numbers.head(20)
    first, second = serving.endpoint("credit").predict(asked), serving.endpoint("credit.v2").predict(asked)
    assert (first.attrs["release"], second.attrs["release"]) == ("credit@1", "credit.v2@1")
    assert (first.label == booster.predict(asked)).all()
    assert (second.label == narrow.predict(asked[["hour", "dist"]])).all()


def test_the_same_cell_again_opens_no_further_version(serving, plane, credit, narrow, numbers):
    first, _ = serving.deploy("credit", narrow, numbers, new_version=True)
    again, _ = serving.deploy("credit", narrow, numbers, new_version=True)
    assert again.release == first.release
    assert sorted(plane.endpoints) == ["credit", "credit.v2"]


def test_another_model_after_it_opens_the_third(serving, credit, booster, narrow, numbers):
    serving.deploy("credit", narrow, numbers, new_version=True)
    outcome, _ = serving.deploy("credit.v2", booster, numbers, new_version=True)
    assert str(outcome.release) == "credit.v3@1"


def test_a_dry_run_opens_nothing(serving, plane, credit, narrow, numbers):
    outcome, _ = serving.deploy("credit", narrow, numbers, new_version=True, dry_run=True)
    assert outcome.release is None
    assert list(plane.endpoints) == ["credit"]


def test_exact_names_are_asked(serving, credit, numbers):
    with pytest.raises(NotFound):
        serving.endpoint("credit.v2").predict(numbers.head(1))
