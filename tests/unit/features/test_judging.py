"""Rows judged by what their view expects: in, in quarantine with the reason, or refused as a whole."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import themisto
from themisto.errors import Invalid, MissingSetting
from themisto.features.judging import REASON, judge, quarantine_file, quarantined
from themisto.features.rowfile import write_parquet
from themisto.features.service import Features

T = pd.Timestamp("2024-01-01")


def view_of(rows: pd.DataFrame, *expects: themisto.Expect) -> themisto.FeatureView:
    whom = themisto.Entity("whom", keys=["who"])
    return themisto.FeatureView("v", entity=whom, at="at", source=rows, expect=expects).with_version(1)


def rows_of(**columns: Any) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    return pd.DataFrame(
        {"who": [f"e{i}" for i in range(count)], "at": [T + pd.Timedelta(hours=i) for i in range(count)]} | columns
    )


def judged(folder: Path, rows: pd.DataFrame, *expects: themisto.Expect) -> tuple[list[str], dict[str, str]]:
    """Who is in, and who is not with the reason."""
    view = view_of(rows, *expects)
    path, _ = write_parquet(view, rows, folder / "drafts")
    data = judge(view, [path], folder)
    apart = quarantined(view, [quarantine_file(folder, q) for q in data.quarantined])
    good = pd.read_parquet(folder / f"{data.sha256}.parquet")
    assert (len(good), len(apart)) == (data.rows, data.quarantined_rows)
    return list(good["who"]), dict(zip(apart["who"], apart[REASON], strict=True))


BIG = 2**60
CASES: dict[str, tuple[list[Any], themisto.Expect, str]] = {
    "float": ([1.0, 60.0, 60.1], themisto.Expect("x", between=(-60, 60)), "x is not between -60 and 60"),
    "float without a lower bound": (
        [1.0, -1e300, 61.0],
        themisto.Expect("x", between=(None, 60)),
        "x is not at most 60",
    ),
    "infinity": (
        [1.0, 0.0, float("inf")],
        themisto.Expect("x", between=(0, None), among=[0, 1]),
        "x is not one of 0, 1",
    ),
    "int beyond a float's digits": (
        [1, BIG, BIG + 1],
        themisto.Expect("x", between=(0, BIG)),
        f"x is not between 0 and {BIG}",
    ),
    "int and a fraction": ([1, 2, 3], themisto.Expect("x", between=(0.5, 2.5)), "x is not between 0.5 and 2.5"),
    "text": (["a", "b", "c"], themisto.Expect("x", among=["a", "b"]), "x is not one of a, b"),
    "pattern": (["ab", "b", "xab"], themisto.Expect("x", matches="a?b"), "x is not like a?b"),
    "pattern with two halves": (["a", "b", "ab"], themisto.Expect("x", matches="a|b"), "x is not like a|b"),
    "line end": (["a", "a", "a\n"], themisto.Expect("x", matches="a"), "x is not like a"),
    "bool": ([True, True, False], themisto.Expect("x", among=[True]), "x is not one of True"),
    "decimal": (
        [Decimal("0.1"), Decimal("0.2"), Decimal("0.3")],
        themisto.Expect("x", between=("0.1", "0.2")),
        "x is not between 0.1 and 0.2",
    ),
    "time": (
        [T, T, pd.Timestamp("2300-01-01")],
        themisto.Expect("x", between=(None, "2200-01-01")),
        "x is not at most 2200-01-01",
    ),
    "once": ([1, 2, 1], themisto.Expect("x", unique=True), "x is not unique"),
    "key": ([1, 2, 3], themisto.Expect("who", among=["e0", "e1"]), "who is not one of e0, e1"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_row_that_is_not_as_expected_is_kept_apart(tmp_path: Path, case: str) -> None:
    values, expect, reason = CASES[case]
    assert judged(tmp_path, rows_of(x=values), expect) == (["e0", "e1"], {"e2": reason})


@pytest.mark.parametrize("case", [c for c in CASES if c != "key"])
def test_rows_as_expected_are_in_and_so_are_empty_ones(tmp_path: Path, case: str) -> None:
    values, expect, _ = CASES[case]
    rows = rows_of(x=pd.Series([*values[:2], None], dtype=object))
    assert judged(tmp_path, rows, expect) == (["e0", "e1", "e2"], {})
    assert not (tmp_path / "quarantine").exists()


def test_every_reason_of_a_row_is_told(tmp_path: Path) -> None:
    rows = rows_of(x=[1.0, 99.0], sky=["clear", "frogs"])
    expects = [themisto.Expect("x", between=(0, 10), among=[1.0]), themisto.Expect("sky", among=["clear"])]
    assert judged(tmp_path, rows, *expects)[1] == {
        "e1": "x is not between 0 and 10; x is not one of 1.0; sky is not one of clear"
    }


def test_of_rows_with_one_value_the_earliest_is_in(tmp_path: Path) -> None:
    rows = rows_of(x=[7, 7, 7]).assign(at=[T + pd.Timedelta(hours=h) for h in (2, 1, 3)])
    assert judged(tmp_path, rows, themisto.Expect("x", unique=True))[0] == ["e1"]


def test_columns_may_be_called_as_they_like(tmp_path: Path) -> None:
    rows = rows_of(n_=[1, 2], part_=[1, 99], rows_=[1, 2], reason=[1, 2])
    assert judged(tmp_path, rows, themisto.Expect("part_", between=(0, 9)))[0] == ["e0"]


def test_what_is_no_number_is_empty(tmp_path: Path) -> None:
    import pyarrow as pa

    rows = rows_of(x=[1.0, 2.0])
    table = pa.Table.from_pandas(rows, preserve_index=False).set_column(2, "x", pa.array([1.0, float("nan")]))
    view = view_of(rows, themisto.Expect("x", between=(0, 10)))
    path, _ = write_parquet(view, table, tmp_path / "drafts")
    data = judge(view, [path], tmp_path)
    assert data.rows == 2
    strict = view.model_copy(update={"expect": (themisto.Expect("x", nulls=0),)})
    with pytest.raises(Invalid, match="'x' of 'v' is empty in 50 % of 2 rows, expected are at most 0 %"):
        judge(strict, [tmp_path / f"{data.sha256}.parquet"], tmp_path)


@pytest.mark.parametrize(("empty", "refused"), [(1, False), (2, True)])
def test_too_many_nulls_refuse_all_rows(tmp_path: Path, empty: int, refused: bool) -> None:
    rows = rows_of(x=[None] * empty + [1.0] * (10 - empty))
    expect = themisto.Expect("x", nulls="<= 10%")
    if refused:
        with pytest.raises(Invalid, match="empty in 20 % of 10 rows, expected are at most 10 %"):
            judged(tmp_path, rows, expect)
    else:
        assert len(judged(tmp_path, rows, expect)[0]) == 10


def test_rows_of_which_none_is_right_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"No row of 'v' is as expected: x is not between 0 and 1 \(2\)"):
        judged(tmp_path, rows_of(x=[5.0, 6.0]), themisto.Expect("x", between=(0, 1)))


def test_without_pandera_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandera.pandas", None)
    with pytest.raises(MissingSetting, match=r"pip install 'themisto\[checks\]'"):
        judged(tmp_path, rows_of(x=[1.0]), themisto.Expect("x", between=(0, 1)))


def test_a_view_without_rows_expects_nothing_of_them(tmp_path: Path) -> None:
    rows = rows_of(x=[1.0]).iloc[:0]
    assert judged(tmp_path, rows, themisto.Expect("x", between=(0, 1), nulls=0, unique=True)) == ([], {})


def test_a_pattern_that_ruins_other_engines_is_judged(tmp_path: Path) -> None:
    rows = rows_of(x=["a" * 5000 + "!", "a"])
    assert judged(tmp_path, rows, themisto.Expect("x", matches="(a+)+"))[0] == ["e1"]


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.integers(-20, 20)), min_size=1, max_size=30),
    first=st.tuples(st.integers(-20, 0), st.integers(0, 20)),
    second=st.tuples(st.integers(-20, 0), st.integers(0, 20)),
)
def test_judged_again_by_other_rules_is_as_if_judged_by_them_at_once(
    tmp_path_factory: pytest.TempPathFactory, values: list, first: tuple, second: tuple
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = rows_of(x=pd.array(values, dtype="Int64"))
    before = view_of(rows, themisto.Expect("x", between=first))
    after = before.model_copy(update={"expect": (themisto.Expect("x", between=second),)})
    path, _ = write_parquet(before, rows, folder / "drafts")

    def told(view: themisto.FeatureView, paths: list[Path]) -> Any:
        try:
            return judge(view, paths, folder)
        except Invalid as error:
            return error.detail

    once = told(before, [path])
    if isinstance(once, str):
        return
    kept = [folder / f"{once.sha256}.parquet", *(quarantine_file(folder, q) for q in once.quarantined)]
    again, direct = told(after, kept), told(after, [write_parquet(before, rows, folder / "drafts")[0]])
    if isinstance(direct, str):
        assert again == direct
        return
    assert (again.rows, again.rules) == (direct.rows, direct.rules)
    assert [q.rows for q in again.quarantined] == [q.rows for q in direct.quarantined]
    pd.testing.assert_frame_equal(
        pd.read_parquet(folder / f"{again.sha256}.parquet"), pd.read_parquet(folder / f"{direct.sha256}.parquet")
    )


def weather_asking(rows: pd.DataFrame, *expects: themisto.Expect, **more: Any) -> themisto.FeatureView:
    airport = themisto.Entity("airport", keys=["origin"])
    return themisto.FeatureView("weather", entity=airport, at="time_hour", source=rows, expect=expects, **more)


MILD = themisto.Expect("temp", between=(-60, 2))


def test_a_quarantined_row_is_neither_online_nor_in_a_join(features: Features, weather_rows: pd.DataFrame) -> None:
    delay = themisto.FeatureService("delay", features=["weather:temp"])
    features.apply(weather_asking(weather_rows, MILD), delay)
    features.materialize("weather")
    assert features.get("delay", origin="JFK")["temp"].tolist() == [1.5]
    late = pd.DataFrame({"origin": ["JFK"], "time_hour": pd.to_datetime(["2013-01-02"])})
    assert features.historical(late, "delay")["temp"].tolist() == [1.5]
    apart = features.quarantine("weather")
    assert apart[["origin", "temp", REASON]].to_numpy().tolist() == [["JFK", 3.0, "temp is not between -60 and 2"]]
    assert features.freshness()[0].quarantined == 1
    assert features.show("weather").data.quarantined[0].reasons == {"temp is not between -60 and 2": 1}


def test_rows_that_are_online_leave_when_less_is_expected_of_them(
    features: Features, weather_rows: pd.DataFrame
) -> None:
    delay = themisto.FeatureService("delay", features=["weather:temp"])
    features.apply(weather_asking(weather_rows), delay)
    features.materialize("weather")
    assert features.get("delay", origin="JFK")["temp"].tolist() == [3.0]
    assert features.quarantine("weather").empty
    features.registry.put_view(weather_asking(weather_rows, MILD))
    assert features.show("weather").view.version == 1
    features.materialize("weather", since="2013-01-01 11:30")
    assert features.get("delay", origin="JFK")["temp"].tolist() == [1.5]
    assert len(features.quarantine("weather")) == 1


def test_rows_come_back_when_they_are_allowed_again(features: Features, weather_rows: pd.DataFrame) -> None:
    features.apply(weather_asking(weather_rows, MILD), themisto.FeatureService("delay", features=["weather:temp"]))
    features.materialize("weather")
    features.registry.put_view(weather_asking(weather_rows))
    features.materialize("weather")
    assert features.get("delay", origin="JFK")["temp"].tolist() == [3.0]
    assert features.show("weather").data.quarantined == ()


def test_refused_rows_leave_the_ones_before(features: Features, weather_rows: pd.DataFrame) -> None:
    features.apply(weather_asking(weather_rows))
    before = features.show("weather").data
    with pytest.raises(Invalid, match=r"'sky' of 'weather' is empty in 33.3 %"):
        features.apply(weather_asking(weather_rows, themisto.Expect("sky", nulls="<= 5%")))
    assert features.show("weather").data == before
    with pytest.raises(Invalid, match="'sky' of 'weather'"):
        features.materialize("weather")
