"""The registry on both databases: versions, groups, freshness."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

import themisto
from themisto.errors import Invalid, NotFound, Refused
from themisto.features.online import OnlineTable
from themisto.features.rowfile import write_parquet
from themisto.types import utcnow
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.features.registry import group_of
from themisto_hub.gateway.feature_book import BOOK, FeatureBook
from themisto_hub.settings import Deployment, Keys

ROWS = pd.DataFrame({"who": ["a", "b"], "at": pd.to_datetime(["2024-01-01", "2024-01-02"]), "x": [1.0, 2.0]})
ANNA = Caller(name="scientist", groups=("one",), scopes=frozenset({"features:read", "features:write"}))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def control(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Control]:
    (tmp_path / "control").mkdir()
    url = None if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    made = Control(Deployment(state=tmp_path, database=url), Keys())
    made.db.migrate()
    yield made
    made.close()


def view(**more) -> themisto.FeatureView:
    return themisto.FeatureView("v", entity=themisto.Entity("e", keys=["who"]), at="at", source=ROWS, **more)


def test_definitions_become_versions_and_never_change(control: Control) -> None:
    registry = control.features.registry
    service = themisto.FeatureService("s", features=["v"])
    for _ in range(2):
        assert registry.put_view(ANNA, "one", view()).view.version == 1
        assert registry.put_service(ANNA, "one", service).ref == "s@1"
    assert registry.put_view(ANNA, "one", view(ttl="1h")).view.version == 2
    assert registry.put_service(ANNA, "one", service).ref == "s@2"
    assert control.features.service_spec("s@1", "one").ttl_s == {"v": None}
    assert control.features.service_spec("s", "one").ttl_s == {"v": 3600}
    with pytest.raises(NotFound, match="There are s"):
        control.features.service_spec("t", "one")


def test_groups_have_names_of_their_own(control: Control) -> None:
    registry = control.features.registry
    for group in ("one", "two"):
        registry.put_view(ANNA, group, view())
        registry.put_service(ANNA, group, themisto.FeatureService("s", features=["v:x"]))
    assert control.features.service_spec("s@1", "two").group == "two"
    with pytest.raises(Invalid, match="one, two"):
        control.features.service_spec("s@1")
    with pytest.raises(Refused):
        group_of(ANNA, "two")
    assert group_of(ANNA, None) == "one"


def test_book_has_every_version_of_every_group(control: Control) -> None:
    registry = control.features.registry
    registry.put_view(ANNA, "one", view())
    registry.put_service(ANNA, "one", themisto.FeatureService("s", features=["v:x"]))
    registry.put_service(ANNA, "one", themisto.FeatureService("s", features=["v:x"], on_missing="null"))
    book = FeatureBook.model_validate_json((control.settings.xds / BOOK).read_bytes())
    assert [spec.ref for spec in book.services] == ["s@1", "s@2"]
    assert book.find("s", ("one",)).version == 2
    with pytest.raises(NotFound):
        book.find("s", ("two",))
    assert not control.features.publish()


def test_rows_replace_rows_and_both_stay_by_digest(control: Control, tmp_path: Path) -> None:
    features = control.features
    registered = features.registry.put_view(ANNA, "one", view())
    kept = []
    for factor in (1, 2):
        path, _ = write_parquet(registered.view, ROWS.assign(x=ROWS.x * factor), tmp_path / "drafts")
        kept.append(features.layers.keep(ANNA, "one", "v", path, None))
    assert features.registry.view("one", "v").data == kept[1]
    assert features.rows.find("one", "v", kept[0].sha256).exists()
    run = features.materializing.ask(ANNA, "one", "v", None, None)
    assert features.materializing.waiting() == [run.id]
    with pytest.raises(NotFound):
        features.materializing.get(ANNA.model_copy(update={"groups": ("two",)}), run.id)
    assert features.registry.freshness("one")[0].offline_to == kept[1].last_at


def test_run_without_a_store_is_tried_and_then_given_up(control: Control, tmp_path: Path) -> None:
    features = control.features
    registered = features.registry.put_view(ANNA, "one", view())
    path, _ = write_parquet(registered.view, ROWS, tmp_path / "drafts")
    features.layers.keep(ANNA, "one", "v", path, None)
    run = features.materializing.ask(ANNA, "one", "v", None, None)
    control.__dict__["settings"] = control.settings.model_copy(update={"port": 1024})
    assert features.materializing.do(run.id).state == "waiting"
    control.clock = lambda: utcnow() + timedelta(minutes=2)
    after = features.materializing.do(run.id)
    assert after.state == "failed"
    assert "online store" in after.message
    assert features.materializing.waiting() == []


class Online:
    """Stands for the online store's owner: counts rows, and dies when it is told to."""

    def __init__(self) -> None:
        self.rows: list[tuple[object, ...]] = []
        self.new: list[bool] = []
        self.erased: list[str] = []
        self.dies_after: int | None = None

    def write(self, table: OnlineTable, rows: list[tuple[object, ...]], *, new: bool = False) -> None:
        if self.dies_after is not None and len(self.rows) >= self.dies_after:
            raise SystemExit
        self.rows += rows
        self.new += [new] * len(rows)

    def erase(self, table: OnlineTable, keys: list[str]) -> None:
        self.erased += keys


def test_a_run_that_was_killed_goes_on_where_it_was(control: Control, tmp_path: Path) -> None:
    features, online = control.features, Online()
    control.features.__dict__["_online"] = online
    registered = features.registry.put_view(ANNA, "one", view())
    many = pd.DataFrame({"who": [f"k{n:06d}" for n in range(12_000)], "at": pd.Timestamp("2024-01-01"), "x": 1.0})

    def brought(rows: pd.DataFrame, **more) -> list[object]:
        path, _ = write_parquet(registered.view, rows, tmp_path / "drafts")
        features.layers.keep(ANNA, "one", "v", path, None)
        run = features.materializing.ask(ANNA, "one", "v", None, None, **more)
        online.rows.clear()
        online.new.clear()
        done = features.materializing.do(run.id)
        assert (done.state, done.rows_written) == ("done", done.rows_total)
        return [row[0] for row in online.rows]

    path, _ = write_parquet(registered.view, many, tmp_path / "drafts")
    features.layers.keep(ANNA, "one", "v", path, None)
    run = features.materializing.ask(ANNA, "one", "v", None, None)
    online.dies_after = 5000
    with pytest.raises(SystemExit):
        features.materializing.do(run.id)
    online.dies_after = None
    assert features.materializing.waiting() == [run.id]
    done = features.materializing.do(run.id)
    assert (done.state, done.rows_written, done.rows_total) == ("done", 12_000, 12_000)
    assert [row[0] for row in online.rows] == list(many.who)
    assert all(online.new), "no entity was online"
    assert brought(many) == []
    assert brought(many.assign(x=[2.0, *many.x[1:]])) == ["k000000"]
    assert brought(many.iloc[1:]) == []
    assert online.erased == ["k000000"]
    assert len(brought(many.iloc[1:], full=True)) == 11_999
    assert not any(online.new)
    assert features.registry.view("one", "v").freshness.online_rows == 12_000


def test_a_run_that_takes_entities_off_begins_anew_after_a_kill(control: Control, tmp_path: Path) -> None:
    features, online = control.features, Online()
    control.features.__dict__["_online"] = online
    many = pd.DataFrame({"who": [f"k{n:06d}" for n in range(12_000)], "at": pd.Timestamp("2024-01-01"), "x": 1.0})
    many.loc[3, "x"] = 9.0
    registered = features.registry.put_view(ANNA, "one", view())
    path, _ = write_parquet(registered.view, many, tmp_path / "drafts")
    features.layers.keep(ANNA, "one", "v", path, None)
    features.materializing.do(features.materializing.ask(ANNA, "one", "v", None, None).id)
    features.registry.put_view(ANNA, "one", view(expect=[themisto.Expect("x", between=(0, 5))]))
    run = features.materializing.ask(ANNA, "one", "v", utcnow(), None)
    online.rows.clear()
    online.dies_after = 5000
    with pytest.raises(SystemExit):
        features.materializing.do(run.id)
    online.dies_after = None
    online.rows.clear()
    online.erased.clear()
    done = features.materializing.do(run.id)
    assert (done.state, done.since, done.full, done.rows_written) == ("done", None, True, 11_999)
    assert online.erased == ["k000003"]
    assert [row[0] for row in online.rows] == [who for who in many.who if who != "k000003"]
    assert features.registry.view("one", "v").data.quarantined[0].cleared
    online.rows.clear()
    features.materializing.do(features.materializing.ask(ANNA, "one", "v", None, None).id)
    assert online.rows == [], "what is online is known by the file it came from"


def test_what_was_pushed_comes_back_when_its_entity_was_taken_off(control: Control, tmp_path: Path) -> None:
    features, online = control.features, Online()
    control.features.__dict__["_online"] = online
    registered = features.registry.put_view(ANNA, "one", view(expect=[themisto.Expect("x", between=(0, 5))]))
    bad = pd.concat([ROWS, ROWS.head(1).assign(at=pd.Timestamp("2024-01-03"), x=9.0)])
    path, _ = write_parquet(registered.view, bad, tmp_path / "drafts")
    features.layers.keep(ANNA, "one", "v", path, None)
    run = features.materializing.ask(ANNA, "one", "v", None, None)
    newer = ROWS.head(1).assign(at=pd.Timestamp("2024-01-04"), x=4.0)
    path, _ = write_parquet(registered.view, newer, tmp_path / "drafts")
    assert features.pushing.push(ANNA, "one", "v", path, None).online
    assert features.materializing.do(run.id).state == "done"
    assert online.erased == ["a"]
    online.rows.clear()
    features.pushing.do()
    assert [(row[0], row[3]) for row in online.rows] == [("a", 4.0)]
    assert features.registry.view("one", "v").data.rows == 3


def test_what_was_pushed_is_never_written_over_as_if_nothing_were_there(control: Control, tmp_path: Path) -> None:
    features, online = control.features, Online()
    control.features.__dict__["_online"] = online
    registered = features.registry.put_view(ANNA, "one", view())
    path, _ = write_parquet(registered.view, ROWS, tmp_path / "drafts")
    features.layers.keep(ANNA, "one", "v", path, None)
    run = features.materializing.ask(ANNA, "one", "v", None, None)
    pushed, _ = write_parquet(registered.view, ROWS.assign(x=7.0), tmp_path / "drafts")
    assert features.pushing.push(ANNA, "one", "v", pushed, None).online
    online.new.clear()
    assert features.materializing.do(run.id).state == "done"
    assert online.new == [False] * len(online.new) != []
