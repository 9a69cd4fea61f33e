"""Callers of a name: counted in the real log's files, shown to its group only, and a reason not to retire it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from themisto.errors import Conflict, NotFound, Refused, Unavailable
from themisto_hub.control.serving.service import Serving
from themisto_hub.gateway.predictions import prediction, write_parquet


@pytest.fixture
def serving(world):
    serving = Serving(world.control)
    serving.changes._subscribers.clear()  # no Envoy to write for
    return serving


@pytest.fixture
def called(world):
    """Write answered requests: `called("credit", "scientist", times, days_ago)`."""

    def write(endpoint, who, *, times=1, days_ago=0.0, release=None, status="200"):
        at = (world.clock.now - timedelta(days=days_ago)).timestamp()
        line = {
            "time": f"{at:.6f}", "path": f"/v2/models/{endpoint}/infer", "caller": who, "status": status,
            "release": release or f"{endpoint}@1", "latency_ms": 1,
        }  # fmt: skip
        folder = world.control.settings.folder("gateway") / "predictions"
        write_parquet(folder, f"part-{who}-{endpoint}-{days_ago}", [prediction(line)] * times)

    return write


@pytest.fixture
def old(world):
    """credit and credit.v2, claimed long ago."""
    world.live()
    world.names.open_version(world.caller(), "credit")
    world.live("credit.v2")
    world.clock.pass_(days=100)


def test_callers_are_counted_by_version_newest_first(world, old, called):
    called("credit", "app-a", times=3, days_ago=2)
    called("credit", "app-a", days_ago=1)
    called("credit.v2", "app-b", times=2)
    called("credit", "long-ago", days_ago=40)
    called("fraud", "app-c")
    found = world.callers.of(world.caller(), "credit.v2", days=30)
    assert [(c.endpoint, c.version, c.caller, c.count) for c in found] == [
        ("credit.v2", 2, "app-b", 2), ("credit", 1, "app-a", 4),
    ]  # fmt: skip
    assert world.last_audit().action == "callers.read"


def test_who_was_refused_is_no_caller(world, old, called):
    called("credit", "stranger", status="403", release="-")
    folder = world.control.settings.folder("gateway") / "predictions"
    line = {"time": f"{world.clock.now.timestamp()}", "path": "/v2/models/credit/infer", "caller": "x", "status": "403"}
    write_parquet(folder, "part-refused", [prediction(line)])
    assert "x" not in [c.caller for c in world.callers.of(world.caller(), "credit", days=30)]


def test_callers_are_shown_to_the_group_only(world, old, called):
    called("credit", "app-a")
    with pytest.raises(Refused):
        world.callers.of(world.caller("colleague", "other-team"), "credit", days=30)
    assert world.last_audit().outcome == "refused"
    with pytest.raises(NotFound):
        world.callers.of(world.caller(), "nothing", days=30)


def test_an_endpoint_that_is_called_is_retired_by_force_only(world, serving, old, called):
    called("credit", "app-a", days_ago=6)
    called("credit", "app-b", days_ago=3)
    with pytest.raises(Conflict, match="in the last 7 days by app-b, app-a, the last one at") as error:
        serving.retire(world.caller(), "credit")
    assert "--force" in error.value.remedy
    assert serving.retire(world.caller(), "credit", force=True).retired
    assert world.last_audit().after["reason"] == "called in the last 7 days by app-b, app-a"


def test_an_endpoint_that_nobody_called_lately_is_retired(world, serving, old, called):
    called("credit", "app-a", days_ago=8)
    called("credit.v2", "app-b")
    assert serving.retire(world.caller(), "credit").retired


def test_who_may_not_retire_does_not_learn_who_calls(world, serving, old, called):
    called("credit", "app-a")
    for force in (False, True):
        with pytest.raises(Refused) as error:
            serving.retire(world.caller("colleague", "other-team"), "credit", force=force)
        assert "app-a" not in str(error.value)


def test_a_log_that_cannot_be_read_does_not_pass_for_an_empty_one(world, serving, old, called):
    called("credit", "app-a")
    folder = world.control.settings.folder("gateway") / "predictions"
    for file in folder.rglob("*.parquet"):
        file.write_bytes(b"half a file")
    with pytest.raises(Unavailable, match=r"nobody knows who calls.*--force"):
        serving.retire(world.caller(), "credit")
    assert serving.retire(world.caller(), "credit", force=True).retired


def test_many_callers_are_named_in_part(world, serving, old, called):
    for number in range(8):
        called("credit", f"app-{number}")
    with pytest.raises(Conflict, match="and 3 others"):
        serving.retire(world.caller(), "credit")


def test_predictions_of_a_former_owner_are_not_shown(world, old, called):
    called("credit", "app-a")
    world.clock.pass_(days=1)
    admin = world.caller("admin", "platform-admins", scopes=("admin",))
    for name in ("credit", "credit.v2"):
        world.rollouts.retire(world.caller(), name)
    world.clock.pass_(days=91)
    world.names.free(admin, "credit")
    rival = world.caller("colleague", "other-team")
    world.names.claim(rival, "credit", "other-team")
    from themisto_hub.control.serving.predictions import Predictions

    assert Predictions(world.control).newest(rival, "credit") == ([], None)
    assert world.callers.of(rival, "credit", days=366) == []
