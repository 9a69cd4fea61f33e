"""What is declared for when a model cannot answer must fit the model, or is refused in words."""

from __future__ import annotations

import math

import pytest

from themisto.errors import Invalid
from themisto.serving.fallback import check_default, parse_default
from themisto.serving.models import Column, Signature

SIGNATURE = Signature(
    inputs=(Column(name="x", dtype="FP32"),),
    outputs=(
        Column(name="label", dtype="BYTES"),
        Column(name="probabilities", dtype="FP32", shape=(2,)),
        Column(name="rank", dtype="INT32", shape=()),
        Column(name="flag", dtype="BOOL"),
    ),
)
FITS = {"label": "no", "probabilities": [0.5, 0.5], "rank": 3, "flag": False}


def doubled(df):
    return df.hour * 2.0


def both(df):
    return {"label": (df.hour > 12).astype("int64"), "probabilities": [[0.5, 0.5]] * len(df)}


def words(df):
    return ["late"] * len(df)


def short(df):
    return df.hour.head(1)


def test_default_that_fits_is_taken():
    check_default(FITS, SIGNATURE)
    check_default(FITS | {"label": ["no"], "probabilities": [1, 0]}, SIGNATURE)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": 1}, "default of 'label' is 1"),
        ({"probabilities": [0.5]}, "has 1 values"),
        ({"probabilities": 0.5}, "is no list"),
        ({"probabilities": [0.5, None]}, "is null"),
        ({"probabilities": [0.5, math.nan]}, "is NaN"),
        ({"rank": 2**31}, "is 2147483648"),
        ({"rank": 1.0}, "is 1.0"),
        ({"rank": True}, "is true"),
        ({"flag": 1}, "is 1"),
        ({"more": 1}, "differ in more"),
    ],
)
def test_default_that_does_not_fit_is_refused_by_name(change, says):
    with pytest.raises(Invalid, match=says):
        check_default(FITS | change, SIGNATURE)


def test_default_without_an_output_is_refused():
    with pytest.raises(Invalid, match="differ in label"):
        check_default({k: v for k, v in FITS.items() if k != "label"}, SIGNATURE)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", "null"])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(Invalid, match="JSON"):
        parse_default(text)


def test_release_carries_default_rule_and_personal_columns(serving, plane, numbers, delay):
    import lightgbm as lgb

    model = lgb.LGBMRegressor(n_estimators=5, verbose=-1).fit(numbers, delay)
    outcome, _ = serving.deploy(
        "sure",
        model,
        numbers,
        default={"prediction": 12.5},
        rule=doubled,
        fallback_after_ms=200,
        personal="hour=hash,themisto-key=drop",
    )
    fallback = outcome.release.fallback
    assert (fallback.default, fallback.after_ms, fallback.rule.kind) == ({"prediction": 12.5}, 200, "python")
    assert fallback.rule.sha256 in plane.artifacts
    assert outcome.release.personal == {"hour": "hash", "themisto-key": "drop"}
    again, _ = serving.deploy(
        "sure",
        model,
        numbers,
        default={"prediction": 12.5},
        rule=doubled,
        fallback_after_ms=200,
        personal="hour=hash,themisto-key=drop",
    )
    assert again.release.number == outcome.release.number


@pytest.mark.parametrize("rule", [words, short, 3, max])
def test_rule_that_is_not_like_the_model_is_refused_before_anything_is_recorded(serving, plane, numbers, delay, rule):
    import lightgbm as lgb

    model = lgb.LGBMRegressor(n_estimators=5, verbose=-1).fit(numbers, delay)
    with pytest.raises(Invalid):
        serving.deploy("unruly", model, numbers, rule=rule)
    assert plane.releases == {}
    assert plane.artifacts == {}


def test_rule_of_a_classifier_names_its_outputs(serving, booster, numbers):
    outcome, _ = serving.deploy("ruled", booster, numbers, rule=both)
    assert outcome.release.fallback.rule is not None
    with pytest.raises(Invalid, match="The rule answers prediction, the model label, probabilities"):
        serving.deploy("unruled", booster, numbers, rule=doubled)
