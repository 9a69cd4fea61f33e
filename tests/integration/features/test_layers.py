"""What a view expects of rows that come in layers: with its definition, and pushed; here and on a workbench."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from tests.integration.features.conftest import Bench, wait_until, workbench

import themisto
from themisto.errors import Invalid
from themisto.features import quarantines
from themisto.features.judging import REASON
from themisto.features.service import Features
from themisto.settings import Settings

PERSON = themisto.Entity("person", keys=["who"])
MILD = themisto.Expect("temp", between=(35, 43), nulls="<= 50%")
SERVICE = themisto.FeatureService("fever", features=["body"])
COLD, HOT = "temp is not between 35 and 43", 99.0


def rows(*given: tuple[str, str, float | None]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "who": [who for who, _, _ in given],
            "at": pd.to_datetime([at for _, at, _ in given]),
            "temp": pd.Series([temp for _, _, temp in given], dtype="float64"),
        }
    )


def body(source: pd.DataFrame | None, *expects: themisto.Expect) -> themisto.FeatureView:
    declared = {"temp": "float64"} if source is None else None
    return themisto.FeatureView("body", entity=PERSON, at="at", source=source, features=declared, expect=expects)


APPLIED = rows(("a", "2024-01-01", 37.0), ("a", "2024-01-02", HOT), ("b", "2024-01-01", 36.0))
PUSHED = rows(("b", "2024-01-03", HOT), ("c", "2024-01-03", 38.0))


@pytest.fixture(params=["local", "workbench", "s3"])
def features(request: pytest.FixtureRequest, tmp_path: Path) -> Features:
    if request.param == "local":
        return Features(Settings(url=None, home=tmp_path), None)
    return workbench(request)


@pytest.fixture
def stored(features: Features, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Path]:
    """A folder with all files of the view, as they are by then."""
    plane = features._control
    if plane is None:
        return lambda: tmp_path / "features" / "offline" / "body"
    bench: Bench = request.getfixturevalue("on_s3" if "s3" in request.node.name else "bench")
    return lambda: bench.stored(plane.group, "body")


def known(found: pd.Series[float]) -> list[float | None]:
    return [None if pd.isna(value) else value for value in found]


def online(features: Features) -> list[float | None]:
    return known(features.get("fever", who=["a", "b", "c"])["temp"])


def offline(features: Features) -> list[float | None]:
    spine = pd.DataFrame({"who": ["a", "b", "c"], "at": pd.Timestamp("2024-02-01")})
    return known(features.historical(spine, "fever")["temp"])


def apart(features: Features) -> list[tuple[str, float]]:
    found = features.quarantine("body")
    assert set(found[REASON]) <= {COLD}
    return sorted(zip(found["who"], found["temp"], strict=True))


def test_what_is_wrong_of_a_push_is_kept_apart_and_stays_there(features: Features) -> None:
    features.apply(body(APPLIED, MILD), SERVICE)
    features.materialize("body")
    pushed = features.push("body", PUSHED)
    assert (pushed.rows, pushed.quarantined) == (1, 1)
    assert online(features) == [37.0, 36.0, 38.0]
    wait_until(lambda: offline(features) == [37.0, 36.0, 38.0], "the merge")
    assert apart(features) == [("a", HOT), ("b", HOT)]
    features.push("body", PUSHED)
    wait_until(lambda: len(apart(features)) == 2, "the merge")
    features.apply(body(APPLIED.iloc[[0, 2]], MILD))
    assert apart(features) == [("b", HOT)], "rows that the view no longer comes with are in no quarantine"
    features.materialize("body")
    assert online(features) == offline(features) == [37.0, 36.0, 38.0]


def test_bad_rows_of_many_pushes_are_one_file(
    features: Features, stored: Callable[[], Path], request: pytest.FixtureRequest
) -> None:
    features.apply(body(APPLIED, MILD), SERVICE)
    for n in range(4):
        bad = rows(("a", f"2024-01-0{n + 3}", HOT), ("b", "2024-01-04", HOT), ("c", f"2024-01-0{n + 3}", 38.0))
        assert features.push("body", bad).quarantined == 2
    expected = [("a", HOT)] * 5 + [("b", HOT)]
    wait_until(lambda: apart(features) == expected, "the merge")
    (whole, before) = features.show("body").data.quarantined
    assert (before.cleared, before.rows, whole.cleared, whole.rows) == (False, 1, True, 5)
    assert dict(whole.reasons) == {COLD: 5}
    if "s3" not in request.node.name:  # there they stay for an hour: they might be another control plane's
        wait_until(lambda: len(list(stored().rglob("quarantine/*.parquet"))) == 2, "the files")
    features.apply(body(APPLIED))
    features.materialize("body")
    assert online(features) == [HOT, HOT, 38.0]
    wait_until(lambda: apart(features) == [], "the merge")


def test_the_quarantine_of_pushes_is_bounded_and_says_how_many_it_had_no_room_for(
    features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantines, "MOST_ROWS", 3)
    features.apply(body(APPLIED.iloc[[0, 2]], MILD), SERVICE)
    for day in ("05", "06", "07", "01"):
        assert features.push("body", rows(("a", f"2024-01-{day}", HOT), ("c", f"2024-01-{day}", 38.0))).rows == 1
    wait_until(
        lambda: known_days(features) == ["01", "06", "07"], "the merge that keeps the last that came, and the newest"
    )
    data = features.show("body").data
    assert (data.quarantined_rows, data.left_out) == (3, {"the quarantine keeps 3 rows": 1})
    features.apply(body(APPLIED.iloc[[0, 2]]))
    features.materialize("body")
    assert features.show("body").data.left_out == data.left_out, "what is lost comes back with no rule, and is told"


def known_days(features: Features) -> list[str]:
    return sorted(f"{at:%d}" for at in features.quarantine("body")["at"])


def test_rows_without_key_or_time_are_counted_for_as_long_as_the_view_has_the_others(features: Features) -> None:
    holes = pd.concat([APPLIED, rows((None, "2024-01-02", 37.0), ("b", None, 37.0), (None, None, 37.0)), APPLIED[:1]])
    left = {"who is empty": 2, "at is empty": 1, "another row has its key and time": 1}
    done = [thing for _, thing in features.apply(body(holes), SERVICE) if hasattr(thing, "data")]
    assert [(view.data.rows, view.data.left_out) for view in done] == [(3, left)]
    features.push("body", PUSHED)
    wait_until(lambda: offline(features) == [HOT, HOT, 38.0], "the merge")
    assert features.show("body").data.left_out == left
    features.registry.put_view(body(holes, MILD))
    features.materialize("body")
    assert features.show("body").data.left_out == left
    features.apply(body(APPLIED, MILD))
    assert features.show("body").data.left_out == {}


def test_a_push_of_which_nothing_is_right_is_refused(features: Features) -> None:
    features.apply(body(APPLIED, MILD), SERVICE)
    with pytest.raises(Invalid, match=r"No row of 'body' is as expected: temp is not between 35 and 43 \(1\)"):
        features.push("body", PUSHED.head(1))
    features.materialize("body")
    assert offline(features) == online(features) == [37.0, 36.0, None]


def test_no_share_of_nulls_is_expected_of_a_push(features: Features) -> None:
    features.apply(body(APPLIED, MILD), SERVICE)
    features.materialize("body")
    assert features.push("body", rows(("b", "2024-01-04", None))).rows == 1
    assert online(features) == [37.0, None, None]


def test_both_layers_are_judged_when_the_view_expects_more(features: Features) -> None:
    features.apply(body(APPLIED), SERVICE)
    features.materialize("body")
    features.push("body", PUSHED)
    assert online(features) == [HOT, HOT, 38.0]
    wait_until(lambda: offline(features) == [HOT, HOT, 38.0], "the merge")
    features.registry.put_view(body(APPLIED, MILD))
    run = features.materialize("body", since="2024-01-03", until="2024-01-03")
    assert (run.since, run.until, run.full) == (None, None, True), "entities that were taken off are brought whole"
    assert online(features) == offline(features) == [37.0, 36.0, 38.0]
    assert apart(features) == [("a", HOT), ("b", HOT)]
    features.push("body", rows(("c", "2024-01-04", 39.0)))
    wait_until(lambda: offline(features) == [37.0, 36.0, 39.0], "a merge that brings nothing back")
    assert apart(features) == [("a", HOT), ("b", HOT)]
    assert all(q.cleared for q in features.show("body").data.quarantined)
    assert not features.materialize("body").full, "what is cleared stays so through a merge"
    assert online(features) == [37.0, 36.0, 39.0]
    features.registry.put_view(body(APPLIED))
    features.materialize("body")
    assert online(features) == offline(features) == [HOT, HOT, 39.0]
    assert apart(features) == []


def test_rows_that_came_before_and_after_are_judged_by_what_is_expected_now(features: Features) -> None:
    features.apply(body(APPLIED), SERVICE)
    features.materialize("body")
    features.registry.put_view(body(APPLIED, MILD))
    assert features.push("body", PUSHED).quarantined == 1
    wait_until(lambda: offline(features) == [HOT, 36.0, 38.0], "the merge")
    features.materialize("body")
    assert online(features) == offline(features) == [37.0, 36.0, 38.0]
    assert apart(features) == [("a", HOT), ("b", HOT)]


def test_pushes_of_a_view_without_a_source_are_judged_again(features: Features) -> None:
    features.apply(body(None), SERVICE)
    features.push("body", PUSHED)
    wait_until(lambda: features.show("body").data is not None, "the merge")
    features.registry.put_view(body(None, MILD))
    features.materialize("body")
    assert online(features) == offline(features) == [None, None, 38.0]


def test_who_is_erased_is_in_no_quarantine_either(features: Features, stored: Callable[[], Path]) -> None:
    features.apply(body(APPLIED, MILD), SERVICE)
    features.push("body", pd.concat([PUSHED, rows(("a", "2024-01-03", HOT))]))
    wait_until(lambda: len(apart(features)) == 3, "the merge")
    features.erase("person", who="a")
    assert apart(features) == [("b", HOT)]
    (left,) = features.show("body").data.quarantined
    assert (left.rows, left.reasons) == (1, {COLD: 1})
    files = stored()
    kept = [path for path in files.rglob("*") if path.is_file()]
    assert [path.stem for path in kept if path.parent != files] == [left.sha256], "no file is there for nothing"
    for path in kept:
        assert duckdb.read_parquet(str(path)).filter("who = 'a'").fetchall() == []
    features.registry.put_view(body(APPLIED))
    features.materialize("body")
    assert online(features) == offline(features) == [None, HOT, 38.0]
    features.apply(body(APPLIED, MILD))
    assert apart(features) == [("b", HOT)], "nor does she come into one again"


def test_an_erasure_leaves_every_version_its_columns(features: Features) -> None:
    features.apply(body(APPLIED), SERVICE)
    features.apply(body(APPLIED.assign(pulse=80)), themisto.FeatureService("fever", features=["body:pulse"]))
    features.erase("person", who="a")
    assert features.historical(APPLIED[["who", "at"]], "fever")["pulse"].isna().tolist() == [True, True, False]
