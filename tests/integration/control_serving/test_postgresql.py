"""The same walk on PostgreSQL: release, canary, promotion, approval, rollback, one unbroken chain."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.control.gates.conftest import Gated, quality
from tests.unit.control.serving.conftest import World

from themisto.errors import Invalid, NotFound
from themisto.serving.gates import RetrainingRequest

pytestmark = pytest.mark.postgres


def test_whole_walk_on_postgresql(tmp_path, postgresql_url):
    world = World(tmp_path / "state", database=postgresql_url)
    world.live(cell="a", tier="prod")
    world.promoted(cell="b", tier="prod")
    assert world.rollouts.rollback(world.caller(), "credit").stable == 1
    with world.control.db.read() as session:
        assert world.control.audit.verify(session).intact
    world.control.close()


def test_gates_hold_outs_and_retraining_on_postgresql(tmp_path, postgresql_url):
    world = Gated(tmp_path / "state", database=postgresql_url, profiles_dir=Path("profiles"))
    world.schedule()
    world.release(quality=quality())
    (work,) = world.progress.unfinished()
    world.progress.proved(work.rollout, "", [world.result(), world.result("f1 >= champion", passed=None)])
    world.progress.loaded(work.rollout, "answers")
    world.policies.pin(world.caller(), "credit", quality())
    world.retrainings.set(world.caller(), "credit", RetrainingRequest(schedule="retrain", on=("drift",)))
    assert world.retrainings.drifted(world.caller(), "credit", "PSI of x is 0.3").last_job is not None
    world.policies.unpin(world.caller(), "credit")
    assert [g.passed for g in world.rollout().gates] == [True, None]
    world.store("c" * 64)
    world.clock.pass_(days=2)
    world.holdouts.sweep()
    assert [h.sha256[0] for h in world.holdouts.page(world.caller(), "data-science")] == ["a"]
    with world.control.db.read() as session:
        assert world.control.audit.verify(session).intact
    world.control.close()


def test_what_postgresql_cannot_keep_is_refused_and_nothing_is_recorded(tmp_path, postgresql_url):
    """SQLite would keep all of it: a NUL in a text, a name longer than its column."""
    world = World(tmp_path / "state", database=postgresql_url)
    for name in ("a\0b", "x" * 400):
        with pytest.raises(Invalid, match="cannot keep a value"):
            world.names.claim(world.caller(), name, "data-science")
        with pytest.raises((Invalid, NotFound)):
            world.endpoints.get(world.caller(), name)
    with world.control.db.read() as session:
        assert world.control.audit.verify(session).events == 0
    world.control.close()
