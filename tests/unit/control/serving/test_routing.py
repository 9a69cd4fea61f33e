"""Routing: the route table as the stored state says, features of each release included."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from themisto_hub.control.serving.routing import Routing
from themisto_hub.control.serving.tables import ReleaseRow
from themisto_hub.gateway.render import feature_table


@pytest.fixture
def routing(world):
    return Routing(world.control, lambda release: ("127.0.0.1:9000", "127.0.0.1:9001"))


def shares(routing):
    return {r.name: {t.release: t.weight_pct for t in r.releases} for r in routing.table().endpoints}


def test_endpoint_without_a_stable_release_has_no_route(world, routing):
    world.release()
    assert shares(routing) == {}


def test_canary_shares_add_up(world, routing):
    world.live(cell="a")
    world.live(cell="b")
    assert shares(routing) == {"credit": {"credit--1": 95, "credit--2": 5}}


def test_table_is_written_once_for_one_state(world, routing):
    world.live(cell="a")
    assert [routing.publish(), routing.publish()] == [True, False]
    world.live(cell="b")
    assert routing.publish() is True
    assert "credit--2" in (world.control.settings.xds / "cds.json").read_text()


def test_rollback_changes_the_routes_in_one_write(world, routing):
    world.live(cell="a")
    world.promoted(cell="b")
    routing.publish()
    world.rollouts.rollback(world.caller(), "credit")
    before = (world.control.settings.xds / "rds.json").stat().st_ino
    routing.publish()
    assert (world.control.settings.xds / "rds.json").stat().st_ino != before
    assert shares(routing) == {"credit": {"credit--1": 100}}


def test_each_release_reads_its_own_feature_service_version(world, routing):
    world.live(cell="a")
    world.live(cell="b")
    with world.control.db.write() as session:  # as if each had been posted with its version
        for row in session.query(ReleaseRow):
            content = row.content | {"feature_service": f"weather@{row.number}"}
            session.execute(update(ReleaseRow).where(ReleaseRow.id == row.id).values(content=content))
    route = routing.table().endpoints[0]
    assert [t.feature_service for t in route.releases] == ["weather@1", "weather@2"]
    assert route.feature_service == "weather@1"


def test_service_that_cannot_be_found_does_not_take_the_route_away(world, routing):
    test_each_release_reads_its_own_feature_service_version(world, routing)
    assert routing.table().endpoints[0].feature_names == ()


def test_feature_table_names_the_version_of_each_release(world, routing):
    test_each_release_reads_its_own_feature_service_version(world, routing)
    table = routing.table()
    named = table.endpoints[0].model_copy(update={"feature_names": ("temp",), "keys": ("origin",)})
    found = feature_table(table.model_copy(update={"endpoints": (named,)}))
    assert {name: one.feature_service for name, one in found.releases.items()} == {
        "credit--1": "weather@1",
        "credit--2": "weather@2",
    }


def test_retired_endpoint_leaves_the_table(world, routing):
    world.live(cell="a")
    world.rollouts.retire(world.caller(), "credit")
    routing.publish()
    assert "credit" not in (world.control.settings.xds / "rds.json").read_text()


@pytest.mark.parametrize("way", ["endpoint", "page", "rollout"])
def test_who_is_told_of_traffic_finds_it_so(world, way):
    """What was committed a moment ago may not have come to the routes yet."""
    serving, caller = world.control.serving, world.caller()
    asked = {
        "endpoint": lambda: serving.endpoint(caller, "credit"),
        "page": lambda: serving.page(caller, limit=10, after=None),
        "rollout": lambda: serving.rollout(caller, "credit", world.rollout_id()),
    }[way]
    routes = world.control.settings.xds / "rds.json"
    for cell in "ab":
        made = world.live(cell=cell)
        asked()
        assert f"credit--{made.number}" in routes.read_text()
    world.rollouts.rollback(world.caller(), "credit")
    asked()
    assert f"credit--{made.number}" not in routes.read_text()
    world.rollouts.retire(world.caller(), "credit")
    asked()
    assert "credit" not in routes.read_text()


def test_routes_that_are_in_force_are_not_made_again_for_who_asks(world, routing, monkeypatch):
    world.live(cell="a")
    world.live(cell="b", rollout={"strategy": "shadow"})
    told = world.endpoints.get(world.caller(), "credit")
    routing.put_in_force(told)
    monkeypatch.setattr(routing, "publish", lambda: pytest.fail("they say the same already"))
    routing.put_in_force(told)
