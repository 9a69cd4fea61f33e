"""Rows that are pushed, on this machine's registry and on a workbench's."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import select
from tests.integration.features.conftest import Bench, wait_until, workbench

import themisto
from themisto.errors import Invalid, NotFound, Refused
from themisto.features import display
from themisto.features.service import Features
from themisto.settings import Settings
from themisto_hub.control.features.tables import DataRow, PushRow

CUSTOMER = themisto.Entity("customer", keys=["who"])


def rows(*given: tuple[str, str, float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "who": [who for who, _, _ in given],
            "at": pd.to_datetime([at for _, at, _ in given]),
            "balance": [value for _, _, value in given],
        }
    )


def view(source: pd.DataFrame | None, **more) -> themisto.FeatureView:
    features = {"balance": "float64"} if source is None else None
    return themisto.FeatureView("accounts", entity=CUSTOMER, at="at", source=source, features=features, **more)


@pytest.fixture(params=["local", "workbench", "s3"])
def features(request: pytest.FixtureRequest, tmp_path: Path) -> Features:
    if request.param == "local":
        return Features(Settings(url=None, home=tmp_path), None)
    return workbench(request)


def balances(features: Features, *moments: str) -> list[float | None]:
    """Offline: what a's balance was, once pushes are part of the view's rows."""
    spine = pd.DataFrame({"who": ["a"] * len(moments), "at": pd.to_datetime(list(moments))})
    found = features.historical(spine, "scoring")["balance"]
    return [None if pd.isna(value) else value for value in found]


def apply(features: Features, source: pd.DataFrame | None, **more) -> None:
    features.apply(view(source, **more), themisto.FeatureService("scoring", features=["accounts"]))


def test_a_push_is_read_at_once_and_part_of_the_past_soon(features: Features) -> None:
    apply(features, rows(("a", "2024-01-01", 1.0), ("b", "2024-01-01", 5.0)))
    features.materialize("accounts")
    pushed = features.push("accounts", rows(("a", "2024-01-03", 2.0), ("a", "2024-01-03", 3.0)))
    assert (pushed.rows, pushed.online, pushed.doubles) == (1, True, 1)
    assert features.get("scoring", who=["a", "b"])["balance"].tolist() == [3.0, 5.0]
    wait_until(lambda: balances(features, "2024-01-02", "2024-01-04") == [1.0, 3.0], "the merge")


def test_a_view_that_is_only_pushed_to_says_how_far_it_is_online(features: Features) -> None:
    apply(features, None)
    assert features.freshness()[0].online_to is None

    def reaches(day: str) -> bool:
        return features.freshness()[0].online_to == pd.Timestamp(day, tz="UTC")

    features.push("accounts", rows(("a", "2024-01-03", 3.0)))
    assert reaches("2024-01-03")
    features.push("accounts", rows(("a", "2024-01-02", 2.0)))
    assert reaches("2024-01-03")

    def merged() -> bool:
        try:
            return balances(features, "2024-01-02", "2024-01-04") == [2.0, 3.0]
        except NotFound:  # it had no rows before
            return False

    wait_until(merged, "the merge")
    assert reaches("2024-01-03")
    shown = repr(display.freshness(features.freshness()))
    assert re.search(r"2024-01-03 00:00:00 UTC +2024-01-03 00:00:00 UTC +— +—", shown), shown
    features.apply(view(rows(("a", "2024-01-05", 5.0))))
    assert reaches("2024-01-03")
    features.materialize("accounts")
    assert reaches("2024-01-05")
    wider = rows(("a", "2024-01-05", 5.0)).assign(more=1)
    features.apply(themisto.FeatureView("accounts", entity=CUSTOMER, at="at", source=wider))
    fresh = features.freshness()[0]
    assert (fresh.version, fresh.online_to, fresh.materialized_at) == (2, None, None)
    features.materialize("accounts")
    assert reaches("2024-01-05")


def test_whatever_is_written_is_announced_to_the_panels_of_the_group(bench: Bench, monkeypatch) -> None:
    heard: list[tuple[str, str]] = []
    monkeypatch.setattr(
        bench.control.events, "publish", lambda kind, data, group=None: heard.append((kind, group or ""))
    )
    features = bench.features("herald", ["heralds"])
    mine = ("features", "heralds")
    features.apply(view(rows(("a", "2024-01-01", 1.0))))
    wait_until(lambda: heard.count(mine) == 2, "the definition and its rows")
    features.apply(themisto.FeatureService("scoring", features=["accounts"]))
    features.push("accounts", rows(("a", "2024-01-02", 2.0)))
    wait_until(lambda: heard.count(mine) == 4, "the service and the push")
    with pytest.raises(NotFound):
        features.push("account", rows(("a", "2024-01-02", 2.0)))
    assert heard.count(mine) == 4


def test_a_late_push_changes_the_past_and_not_the_present(features: Features) -> None:
    apply(features, rows(("a", "2024-01-05", 5.0)))
    features.materialize("accounts")
    features.push("accounts", rows(("a", "2024-01-03", 3.0)))
    assert features.get("scoring", who="a")["balance"].tolist() == [5.0]
    wait_until(lambda: balances(features, "2024-01-04", "2024-01-06") == [3.0, 5.0], "the merge")


def test_pushing_again_changes_nothing_and_a_correction_counts(features: Features) -> None:
    apply(features, None)
    event = rows(("a", "2024-01-03", 3.0))
    features.push("accounts", event)
    features.push("accounts", event)
    features.push("accounts", event.assign(balance=4.0))
    assert features.get("scoring", who="a")["balance"].tolist() == [4.0]
    wait_until(lambda: features.show("accounts").data is not None, "the merge")
    wait_until(lambda: balances(features, "2024-01-04") == [4.0], "the merge")
    assert features.show("accounts").data.rows == 1


def test_applying_again_keeps_what_was_pushed(features: Features) -> None:
    apply(features, rows(("a", "2024-01-01", 1.0)))
    features.push("accounts", rows(("a", "2024-01-03", 3.0)))
    apply(features, rows(("a", "2024-01-01", 1.5), ("a", "2024-01-02", 2.0)))
    assert balances(features, "2024-01-01", "2024-01-02", "2024-01-04") == [1.5, 2.0, 3.0]
    apply(features, rows(("a", "2024-01-02", 2.5)))
    assert balances(features, "2024-01-01", "2024-01-02", "2024-01-04") == [None, 2.5, 3.0]


def test_pushes_go_on_in_a_new_version_that_they_fit(features: Features) -> None:
    apply(features, rows(("a", "2024-01-01", 1.0)))
    features.push("accounts", rows(("a", "2024-01-03", 3.0)))
    apply(features, rows(("a", "2024-01-01", 1.0)).assign(limit=[9.0]))
    assert balances(features, "2024-01-04") == [1.0], "rows without the new feature are none of the new version"
    apply(features, rows(("a", "2024-01-01", 1.0)), ttl="300d")
    assert features.show("accounts").view.version == 3
    assert balances(features, "2024-01-04") == [3.0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (rows(("a", "2024-01-01", 1.0)).assign(balance="much"), "'balance' is"),
        (rows(("a", "2024-01-01", 1.0)).drop(columns="at"), "at"),
        (rows(("a", "2024-01-01", 1.0)).drop(columns="balance"), "balance"),
        ("nowhere.parquet", "no file 'nowhere.parquet'"),
        (7, "A int is no source"),
    ],
)
def test_rows_that_do_not_fit_are_refused_whole(features: Features, given, says: str) -> None:
    apply(features, rows(("a", "2024-01-01", 1.0)))
    with pytest.raises((Invalid, NotFound), match=says):
        features.push("accounts", given)
    assert balances(features, "2024-01-04") == [1.0]


def test_a_view_that_is_not_there_is_told(features: Features) -> None:
    with pytest.raises(NotFound, match="no feature view 'accounts'"):
        features.push("accounts", rows(("a", "2024-01-01", 1.0)))


def test_only_the_group_with_the_scope_pushes(bench: Bench) -> None:
    owner = bench.features("owner-of-pushes", ["pushes"])
    apply(owner, rows(("a", "2024-01-01", 1.0)))
    with pytest.raises(NotFound):
        bench.features("stranger-to-pushes", ["elsewhere"]).push("accounts", rows(("a", "2024-01-03", 3.0)))
    reader = bench.features("reader-of-pushes", ["pushes"], scopes=["custom:themisto:features:read"])
    with pytest.raises(Refused):
        reader.push("accounts", rows(("a", "2024-01-03", 3.0)))
    owner.materialize("accounts")
    assert owner.get("scoring", who="a")["balance"].tolist() == [1.0]


def test_a_push_waits_for_an_online_store_that_is_down(bench: Bench) -> None:
    features = bench.features("patient", ["patient"])
    apply(features, rows(("a", "2024-01-01", 1.0)))
    features.materialize("accounts")
    bench.stop_transformer(signal.SIGKILL)
    try:
        pushed = features.push("accounts", rows(("a", "2024-01-03", 3.0)))
    finally:
        bench.start_transformer()
    assert not pushed.online
    wait_until(lambda: features.get("scoring", who="a")["balance"].tolist() == [3.0], "the rows online")


def test_files_that_nothing_was_made_of_do_not_pile_up(either: Bench) -> None:
    features = either.features("busy", ["busy"])
    apply(features, rows(("a", "2024-01-01", 1.0)))
    balances(features, "2024-01-01")  # this file was handed out: it stays
    first = features.show("accounts").data.sha256
    for day in range(2, 8):
        features.push("accounts", rows(("a", f"2024-01-0{day}", float(day))))
        either.control.features.layers.merge("busy", "accounts")
    folder = either.stored("busy", "accounts")
    with either.control.db.read() as session:
        assert session.scalars(select(PushRow).where(PushRow.group_name == "busy")).all() == []
        kept = {row.sha256 for row in session.scalars(select(DataRow).where(DataRow.group_name == "busy"))}
    assert {path.stem for path in folder.glob("*.parquet")} == kept
    assert first in kept
    assert len(kept) <= 4
    assert balances(features, "2024-01-09") == [7.0]
