"""Leakage, targets, splits, likeness, promises: each finding is there with its fault, and not without it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

import themisto
from themisto.errors import Failed, Invalid, MissingSetting
from themisto.features.findings import Finding, Findings
from themisto.features.promises import in_words, kept, late
from themisto.features.records import Freshness
from themisto.features.service import Features
from themisto.features.targets import target_like

T = pd.Timestamp("2024-01-01", tz="UTC")


def hours(*ages: float) -> list[pd.Timestamp]:
    return [T + pd.Timedelta(hours=h) for h in ages]


ACCOUNTS = pd.DataFrame(
    {
        "who": ["a", "a", "a", "b", "b"],
        "at": hours(0, 10, 20, 0, 10),
        "made": hours(1, 15, 21, 1, 11),
        "balance": [1.0, 2.0, 3.0, 4.0, 5.0],
        "grade": ["x", "y", "z", "x", "x"],
    }
)
SPINE = pd.DataFrame({"who": ["a", "a", "b"], "when": hours(5, 12, 12)})


def prepared(features: Features, *, created: str | None = "made", **more: Any) -> Features:
    whom = themisto.Entity("account", keys=["who"])
    names = ["balance", "grade"]
    view = themisto.FeatureView("acc", entity=whom, at="at", created=created, features=names, source=ACCOUNTS, **more)
    features.apply(view, themisto.FeatureService("s", features=["acc"]))
    return features


def told(features: Features, check: str, *args: Any, **more: Any) -> list[Finding]:
    return features.check("s", *args, **more).of(check)


def test_rows_that_were_written_later_are_a_leak_of_a_plain_join(features: Features) -> None:
    (found,) = told(prepared(features), "leakage", SPINE, at="when")
    assert (
        found.detail == "1 of 3 rows would get by a plain join values of 'acc' that were written after the row's time."
    )
    assert (found.severity, found.figures["share"]) == ("warning", pytest.approx(1 / 3))
    (example,) = found.figures["examples"]
    assert (example["who"], example["created"]) == ("a", "2024-01-01 15:00:00+00")


def test_rows_that_were_written_in_time_are_none(features: Features) -> None:
    assert told(prepared(features), "leakage", SPINE.iloc[[0, 2]], at="when") == []
    assert told(prepared(features, created=None), "leakage", SPINE, at="when") == []


@pytest.mark.parametrize(("known", "leaks"), [(False, 1), (True, 0)])
def test_joined_rows_leak_unless_they_were_joined_as_known(features: Features, known: bool, leaks: int) -> None:
    joined = prepared(features).historical(SPINE, "s", at="when", known=known)
    found = told(features, "leakage", joined, at="when")
    assert [(f.severity, f.figures["rows"]) for f in found] == [("error", 1)] * leaks


def test_values_that_came_later_are_a_leak(features: Features) -> None:
    joined = prepared(features, created=None).historical(SPINE, "s", at="when")
    assert told(features, "leakage", joined, at="when") == []
    newest = joined.assign(balance=[3.0, 3.0, 5.0], grade=["z", "z", "x"])  # a merge with today's rows
    (found,) = told(features, "leakage", newest, at="when")
    assert (found.severity, found.figures["rows"]) == ("error", 2)
    assert found.detail == "2 of 3 rows have values of 'acc' that it got only after the row's time."
    assert found.figures["examples"][0]["event"] == "2024-01-01 20:00:00+00"


def test_values_that_the_view_never_had_are_told_apart(features: Features) -> None:
    joined = prepared(features, created=None).historical(SPINE, "s", at="when")
    (found,) = told(features, "leakage", joined.assign(balance=joined.balance * 1000), at="when")
    assert (found.severity, found.figures["rows"]) == ("warning", 3)


def test_values_past_their_ttl_are_told(features: Features) -> None:
    joined = prepared(features, created=None, ttl="4h").historical(SPINE, "s", at="when")
    assert joined["balance"].isna().tolist() == [True, False, False]
    assert told(features, "leakage", joined, at="when") == []
    (found,) = told(features, "leakage", joined.assign(balance=[1.0, 2.0, 5.0]), at="when")
    assert found.figures["rows"] == 1


def test_without_keys_or_time_it_says_what_it_needs(features: Features) -> None:
    skipped = prepared(features).check("s", SPINE[["who"]]).skipped
    assert "which column is the time" in skipped["leakage"]
    assert "need who and when" in features.check("s", SPINE[["when"]]).skipped["leakage"]
    assert set(features.check("s").skipped) == {"leakage", "target", "split", "skew"}


RNG = np.random.default_rng(0)
COUNT = 2000
GOOD = RNG.normal(size=COUNT)
DEFAULTED = (GOOD + RNG.normal(size=COUNT) * 2 > 2).astype(int)
AMOUNT = 3 * GOOD + RNG.normal(size=COUNT)
CLASSES: dict[str, Any] = {
    "the label": DEFAULTED,
    "the label as text": np.where(DEFAULTED, "yes", "no"),
    "a number by it": DEFAULTED * 100.0 + RNG.random(COUNT),
    "emptiness": np.where(DEFAULTED, 1.0, np.nan),
    "a date by it": pd.Timestamp("2024-01-01") + pd.to_timedelta(DEFAULTED * 1000 + RNG.random(COUNT), unit="h"),
}
HONEST: dict[str, Any] = {
    "a good feature": GOOD,
    "noise": RNG.random(COUNT),
    "an id": [f"id{i}" for i in range(COUNT)],
    "nearly an id": RNG.integers(0, 1500, COUNT).astype(str),
    "constant": [1] * COUNT,
    "empty": [None] * COUNT,
    "holes": np.where(RNG.random(COUNT) < 0.3, np.nan, GOOD),
    "lists": [[1.0]] * COUNT,
    "flag": RNG.random(COUNT) < 0.5,
}


@pytest.mark.parametrize("case", CLASSES)
def test_a_feature_that_gives_a_class_away_is_told(case: str) -> None:
    (found,) = target_like(pd.DataFrame({"f": CLASSES[case], "y": DEFAULTED}), ["f"], "y")
    assert (found.severity, found.subject) == ("error", "f")


@pytest.mark.parametrize("case", HONEST)
def test_an_honest_feature_of_a_class_is_not_told(case: str) -> None:
    assert target_like(pd.DataFrame({"f": HONEST[case], "y": DEFAULTED}), ["f"], "y") == []


def test_a_feature_that_gives_a_number_away_is_told() -> None:
    frame = pd.DataFrame({"y": AMOUNT, "copy": AMOUNT * 2 + 1, "near": AMOUNT + RNG.normal(size=COUNT) * 0.7})
    severities = {f.subject: f.severity for f in target_like(frame, ["copy", "near"], "y")}
    assert severities == {"copy": "error", "near": "warning"}


@pytest.mark.parametrize("case", HONEST)
def test_an_honest_feature_of_a_number_is_not_told(case: str) -> None:
    assert target_like(pd.DataFrame({"f": HONEST[case], "y": AMOUNT}), ["f"], "y") == []


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        ({"f": [1] * 60, "z": [1] * 60}, "no column 'y'"),
        ({"f": [1] * 60, "y": [1] * 60}, "'y' has one value"),
        ({"f": [1] * 9, "y": [1] * 9}, "Only 9 rows have a 'y'"),
        ({"f": [1] * 60, "y": [None] * 60}, "Only 0 rows"),
    ],
)
def test_a_label_that_is_none_is_told(frame: dict, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        target_like(pd.DataFrame(frame), ["f"], "y")


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.feature_selection", None)
    with pytest.raises(MissingSetting, match=r"pip install 'themisto\[checks\]'"):
        target_like(pd.DataFrame({"y": [0, 1] * 50}), [], "y")


def big(features: Features) -> tuple[Features, pd.DataFrame]:
    who = [f"c{i:03}" for i in range(100)]
    source = pd.DataFrame({"who": who, "at": [T] * 100, "score": RNG.random(100)})
    whom = themisto.Entity("customer", keys=["who"])
    view = themisto.FeatureView("scores", entity=whom, at="at", source=source)
    features.apply(view, themisto.FeatureService("s", features=["scores"]))
    spine = pd.DataFrame({"who": who, "at": [T + pd.Timedelta(days=1)] * 100, "part": ["train"] * 80 + ["test"] * 20})
    return features, spine


def test_a_target_is_found_through_the_join(features: Features) -> None:
    features, spine = big(features)
    score = features.historical(spine, "s")["score"]
    assert [f.subject for f in told(features, "target", spine.assign(y=score > 0.5), label="y")] == ["score"]
    assert told(features, "target", spine.assign(y=RNG.random(100) > 0.5), label="y") == []


@pytest.mark.parametrize("how", ["column", "frames"])
def test_one_row_in_both_parts_is_told(features: Features, how: str) -> None:
    features, spine = big(features)
    twice = pd.concat([spine, spine.iloc[:3].assign(part="test")], ignore_index=True)
    clean, dirty = (
        told(features, "split", rows, split="part")
        if how == "column"
        else told(features, "split", rows[rows.part == "train"], split=rows[rows.part == "test"])
        for rows in (spine, twice)
    )
    assert clean == []
    (found,) = dirty
    assert (found.severity, found.figures["rows"], found.subject) == ("error", 6, "who, at")
    assert len(found.figures["examples"]) == 3


def test_features_that_are_equal_in_both_parts_are_told(features: Features) -> None:
    features, spine = big(features)
    later = spine.iloc[:5].assign(part="test", at=T + pd.Timedelta(days=2))
    (found,) = told(features, "split", pd.concat([spine, later], ignore_index=True), split="part")
    assert (found.severity, found.figures["rows"]) == ("warning", 10)


@pytest.mark.parametrize(("split", "says"), [("prat", "no column 'prat'"), ("one", "The split has one part: x")])
def test_a_split_that_is_none_is_told(features: Features, split: str, says: str) -> None:
    features, spine = big(features)
    with pytest.raises(Invalid, match=says):
        features.check("s", spine.assign(one="x"), split=split)


FRESH = pd.DataFrame({"temp": [3.0, 2.0], "sky": ["cloud", "rain"]})


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (FRESH, []),
        (FRESH.assign(temp=[100.0, 2.0]), ["'temp' is outside the range 1.5 to 3.0 offline in 50 % of the rows."]),
        (FRESH[["temp"]], ["'sky' is missing in the rows to compare."]),
        (FRESH.assign(sky=["snow", "rain"]), ["'sky' is outside the values seen offline in 50 % of the rows."]),
        (FRESH.assign(temp=[None, 2.0]), ["'temp' is empty in 50 % of the rows, offline in 0 %."]),
        (FRESH.assign(sky=[1, 2]), ["'sky' does not fit: The column 'sky' is int64, not string."]),
    ],
)
def test_rows_unlike_the_offline_ones_are_told(applied: Features, rows: pd.DataFrame, says: list[str]) -> None:
    assert [f.detail for f in applied.check("delay", rows).of("likeness")] == says


def test_the_range_of_a_personal_feature_is_not_told(features: Features, weather_rows: pd.DataFrame) -> None:
    airport = themisto.Entity("airport", keys=["origin"])
    personal = [themisto.Feature("temp", personal=True)]
    view = themisto.FeatureView("w", entity=airport, at="time_hour", features=personal, source=weather_rows)
    features.apply(view, themisto.FeatureService("s", features=["w"]))
    (found,) = features.check("s", FRESH.assign(temp=[100.0, 2.0])).of("likeness")
    assert found.detail == "'temp' is outside the range offline in 50 % of the rows."


def test_a_feature_without_a_value_is_told(features: Features, weather_rows: pd.DataFrame) -> None:
    airport = themisto.Entity("airport", keys=["origin"])
    view = themisto.FeatureView(
        "w", entity=airport, at="time_hour", features={"temp": "float64"}, source=weather_rows.assign(temp=float("nan"))
    )
    features.apply(view, themisto.FeatureService("s", features=["w"]))
    (found,) = features.check("s").of("likeness")
    assert found.detail == "'temp' is empty in all 3 rows offline."


NOW = datetime(2024, 1, 2, tzinfo=UTC)


def age(**known: float | None) -> Freshness:
    moments = {n: None if h is None else NOW - timedelta(hours=h) for n, h in known.items() if n != "fresh_h"}
    promise = known.get("fresh_h", 6)
    return Freshness(view="v", version=1, fresh_s=None if promise is None else promise * 3600, **moments)


@pytest.mark.parametrize(
    ("fresh", "says"),
    [
        (age(offline_to=6), "yes"),
        (age(offline_to=7), "no: the newest is 7 h old"),
        (age(offline_to=1, online_to=6, materialized_at=0), "yes"),
        (age(offline_to=1, online_to=50, materialized_at=0), "no: online the newest is 2.1 d old"),
        (age(offline_to=1, online_to=None, materialized_at=0), "no: online there is none"),
        (age(), "no: it has no rows"),
        (age(offline_to=900, fresh_h=None), ""),
    ],
)
def test_a_promise_is_held_against_both_ages(fresh: Freshness, says: str) -> None:
    assert kept(fresh, NOW) == says
    assert [f.check for f in late([fresh], NOW)] == ["freshness"] * says.startswith("no")


@pytest.mark.parametrize(
    ("age_s", "words"), [(0, "0 s"), (59, "59 s"), (90, "1.5 min"), (36000, "10 h"), (864000, "10 d")]
)
def test_an_age_is_said_in_words(age_s: float, words: str) -> None:
    assert in_words(age_s) == words


def finding(severity: Any, check: str = "skew") -> Finding:
    return Finding(check=check, subject="v", severity=severity, detail=f"It is a {severity}.", remedy="Mend it.")


def test_findings_are_worst_first_and_a_frame() -> None:
    found = Findings([finding("note"), finding("error"), finding("warning")])
    assert found.frame()["severity"].tolist() == ["error", "warning", "note"]
    assert "&lt;b&gt;" in Findings([finding("note", "<b>")])._repr_html_()
    assert list(Findings().frame()) == ["check", "subject", "severity", "detail", "remedy", "figures"]


def test_a_pipeline_stops_at_what_is_as_bad_as_asked() -> None:
    found = Findings([finding("warning")])
    found.raise_on("error")
    with pytest.raises(Failed, match=r"It is a warning\. Mend it\."):
        found.raise_on("warning")
    with pytest.raises(Invalid, match="no severity"):
        found.raise_on("eror")


def test_check_raises_what_it_finds_if_asked(features: Features) -> None:
    with pytest.raises(Failed, match="written after the row's time"):
        prepared(features).check("s", features.historical(SPINE, "s", at="when"), at="when", raise_on="error")


def test_rows_may_be_an_arrow_table_and_must_be_a_table(features: Features) -> None:
    import pyarrow as pa

    table = pa.Table.from_pandas(SPINE)
    assert len(told(prepared(features), "leakage", table, at="when")) == 1
    with pytest.raises(Invalid, match="A int is no source"):
        features.check("s", 7)


def test_no_rows_are_no_fault(features: Features) -> None:
    assert [f.check for f in prepared(features).check("s", SPINE.iloc[:0], at="when")] == []


@pytest.mark.parametrize("sample", [0, -1, 10**9])
def test_a_sample_that_is_none_is_told(features: Features, sample: int) -> None:
    with pytest.raises(Invalid, match="A sample of"):
        prepared(features).check("s", sample=sample)
