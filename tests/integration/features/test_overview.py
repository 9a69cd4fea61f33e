"""What the panel lists of features: every view of one's groups, who reads it, whether it keeps its promise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import themisto
from themisto.errors import NotFound
from themisto.features.rowfile import write_parquet
from themisto.features.sketches import BINS
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.settings import Deployment, Keys

SCOPES = frozenset({"features:read", "features:write"})
ANNA = Caller(name="scientist", groups=("one", "two"), scopes=SCOPES)
ROWS = pd.DataFrame({"who": ["a", "b"], "at": pd.to_datetime(["2024-01-01", "2024-01-02"]), "x": [1.0, 2.0]})


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def control(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Control]:
    (tmp_path / "control").mkdir()
    url = None if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    made = Control(Deployment(state=tmp_path, database=url), Keys())
    made.db.migrate()
    yield made
    made.close()


def put(control: Control, group: str, name: str, *, rows: pd.DataFrame | None = ROWS, **more) -> None:
    entity = themisto.Entity("e", keys=["who"])
    view = themisto.FeatureView(name, entity=entity, at="at", features={"x": "float64"}, source=rows, **more)
    registered = control.features.registry.put_view(ANNA, group, view)
    if rows is not None:
        path, data = write_parquet(registered.view, rows, control.settings.folder("features"))
        control.features.layers.keep(ANNA, group, name, path, data.sha256)


def test_views_of_all_groups_are_listed_with_owner_readers_and_promise(control: Control) -> None:
    put(control, "two", "late", fresh="1h", owner="risk")
    put(control, "one", "plain")
    put(control, "one", "empty", rows=None)
    put(control, "other", "hidden")
    service = themisto.FeatureService("s", features=["plain"])
    control.features.registry.put_service(ANNA, "one", service)
    empty, plain, late = control.features.overview.views(ANNA.groups, limit=10)
    assert [(v.group, v.name, v.owner) for v in (empty, plain, late)] == [
        ("one", "empty", "scientist"),
        ("one", "plain", "scientist"),
        ("two", "late", "risk"),
    ]
    assert (plain.services, plain.rows, plain.kept, plain.keys) == (("s@1",), 2, "", ("who",))
    assert late.kept.startswith("no: the newest is ")
    assert (empty.rows, empty.offline_to) == (0, None)
    assert len(control.features.overview.views(ANNA.groups, limit=2)) == 2


def test_a_sketch_is_of_the_rows_there_are_now(control: Control) -> None:
    put(control, "one", "v")
    first = control.features.overview.sketch("one", "v")
    assert (first.rows, first.features[0].bins) == (2, (1, *[0] * (BINS - 2), 1))
    assert control.features.overview.sketch("one", "v") is first
    put(control, "one", "v", rows=ROWS.assign(x=[None, 5.0]))
    assert control.features.overview.sketch("one", "v").features[0].nulls == 1


def test_a_mark_made_later_hides_what_was_shown(control: Control) -> None:
    put(control, "one", "v")
    assert control.features.overview.sketch("one", "v").features[0].greatest == 2.0
    entity = themisto.Entity("e", keys=["who"])
    marked = [themisto.Feature("x", dtype="float64", personal=True)]
    view = themisto.FeatureView("v", entity=entity, at="at", features=marked, source=ROWS)
    control.features.registry.put_view(ANNA, "one", view)
    assert control.features.overview.sketch("one", "v").features[0].greatest is None


@pytest.mark.parametrize(("group", "name"), [("two", "v"), ("one", "w"), ("one", "empty")])
def test_no_view_or_no_rows_is_told(control: Control, group: str, name: str) -> None:
    put(control, "one", "v")
    put(control, "one", "empty", rows=None)
    with pytest.raises(NotFound):
        control.features.overview.sketch(group, name)
