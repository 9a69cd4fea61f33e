"""Transforms: one text for all rows that ever come in, and what it may look at."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

import themisto
from themisto.errors import Invalid, NotFound, Refused
from themisto.features.service import Features
from themisto.features.transforms import Transform
from themisto.features.windows import Aggregate

RATIO = "SELECT id, seen_at, amount / income AS ratio FROM source WHERE income > 0"
FACTOR = 2.0


def loans() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [1, 2, 3],
            "seen_at": pd.to_datetime(["2026-01-01"] * 3, utc=True),
            "amount": [100.0, 50.0, 7.0],
            "income": [1000, 200, 0],
            "note": ["a", None, "c"],
        }
    )


def burden(source: pd.DataFrame) -> pd.DataFrame:
    income = source["income"].where(source["income"] > 0, np.nan)
    return source[["id", "seen_at"]].assign(ratio=FACTOR * source["amount"] / income)


def view(transform, source=None, **more) -> themisto.FeatureView:
    applicant = themisto.Entity("applicant", keys=["id"])
    source = loans() if source is None else source
    return themisto.FeatureView("burden", entity=applicant, at="seen_at", source=source, transform=transform, **more)


def test_sql_makes_the_rows_and_their_types(features: Features) -> None:
    made = view(RATIO)
    assert [(f.name, f.dtype) for f in made.features] == [("ratio", "float64")]
    features.apply(made, themisto.FeatureService("s", features=["burden"]))
    spine = pd.DataFrame({"id": [1, 2, 3], "seen_at": pd.to_datetime(["2026-01-02"] * 3, utc=True)})
    assert features.historical(spine, "s")["ratio"].fillna(-1).tolist() == [0.1, 0.25, -1]


def test_function_is_kept_as_source_with_what_it_leans_on() -> None:
    made = view(burden)
    assert made.transform.language == "python"
    assert "FACTOR = 2.0" in made.transform.text
    assert "import numpy as np" in made.transform.text
    again = themisto.FeatureView.model_validate_json(made.model_dump_json())
    assert again == made
    rows = again.transform.rows(loans(), view="burden").to_pandas()
    assert rows["ratio"].fillna(-1).tolist() == [0.2, 0.5, -1]


@pytest.mark.parametrize("transform", [RATIO, burden])
def test_rows_of_a_push_are_made_by_the_same_text(transform) -> None:
    made = view(transform)
    whole = made.transform.rows(loans(), view="burden").to_pandas()
    whole_numbers = loans().iloc[:1].assign(amount=[100])  # an int where the source had floats
    first = (
        made.transform.rows(whole_numbers.drop(columns="note", errors="ignore"), view="burden")
        if (transform is RATIO)
        else made.transform.rows(whole_numbers, view="burden")
    )
    assert first.to_pandas()["ratio"].tolist() == whole["ratio"].tolist()[:1]
    with pytest.raises(NotFound, match="looks at income"):
        made.transform.rows(loans().drop(columns="income"), view="burden")


def test_text_is_part_of_the_version_but_only_the_columns_it_looks_at() -> None:
    assert view(RATIO).content_hash() == view(RATIO, loans().drop(columns="note")).content_hash()
    hashes = {view(t).content_hash() for t in (RATIO, RATIO.replace("> 0", "> 1"), burden)}
    assert len(hashes) == 3


def test_server_runs_sql_and_refuses_python() -> None:
    assert view(RATIO).transform.rows(loans(), view="burden", server=True).num_rows == 2
    with pytest.raises(Refused, match="author's kernel only"):
        view(burden).transform.rows(loans(), view="burden", server=True)


def test_aggregates_are_over_what_the_transform_makes() -> None:
    made = view(
        "SELECT id, seen_at, amount * 2 AS double_amount FROM source",
        aggregates=[Aggregate("double_amount", "max", over="1d")],
        every="1h",
    )
    assert [f.name for f in made.features] == ["max_double_amount_1d"]


def total(source: pd.DataFrame) -> pd.DataFrame:
    return source[["id", "seen_at"]].assign(share=source["amount"] / source["amount"].sum())


def nothing(source: pd.DataFrame) -> int:
    return len(source)


def broken(source: pd.DataFrame) -> pd.DataFrame:
    return source[["id", "seen_at", "missing"]]


@pytest.mark.parametrize(
    ("transform", "says"),
    [
        ("SELECT id, seen_at, sum(amount) AS s FROM source GROUP BY ALL", "one row at a time"),
        ("SELECT id, seen_at, lag(amount) OVER (ORDER BY seen_at) AS s FROM source", "one row at a time"),
        ("SELECT * FROM source LIMIT 1", "one row at a time"),
        ("SELECT DISTINCT id, seen_at, amount FROM source", "one row at a time"),
        ("SELECT a.id, a.seen_at, b.amount FROM source a, source b", "one row at a time"),
        ("SELECT id, seen_at, random() AS r FROM source", "random"),
        ("SELECT id, seen_at, now() - seen_at AS age FROM source", "now"),
        ("SELECT id, seen_at, current_date AS today FROM source", "current_date"),
        ("SELECT id, seen_at, missing FROM source", "missing"),
        ("SELECT 1 AS id", "dummy scan"),
        ("SELECT * FROM '/etc/passwd'", "passwd"),
        ("SELECT id, seen_at, amount FROM source; DROP TABLE source", "not one SELECT"),
        ("COPY source TO '/tmp/x.csv'", "not one SELECT"),
        ("SELEC", "does not run"),
        (total, "fewer rows come together"),
        (nothing, "gave a int"),
        (broken, "stopped: KeyError"),
        (lambda source: source, "made with def"),
        (7, "no transform"),
    ],
)
def test_what_is_no_transform_is_one_sentence(transform, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        view(transform)


def test_name_that_only_the_kernel_has_is_told() -> None:
    kept = {"object": object()}

    def inner(source: pd.DataFrame) -> pd.DataFrame:
        return source.assign(x=len(kept))

    with pytest.raises(Invalid, match="kept"):
        view(inner)


def test_row_that_is_no_number_is_nothing() -> None:
    source = loans().assign(amount=[math.nan, math.inf, 1.0])
    found = view(RATIO, source).transform.rows(source, view="burden").to_pandas()["ratio"]
    assert found.isna().tolist() == [True, False]


def test_unknown_language_is_refused() -> None:
    with pytest.raises(Invalid, match="language"):
        Transform(language="r", text="x")
