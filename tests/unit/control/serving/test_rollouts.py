"""Rollouts: the state machine, step by step, as people and the reconciler take it."""

from __future__ import annotations

import sqlite3

import pytest
from pydantic import ValidationError

from themisto.errors import Conflict, NotFound, Refused
from themisto.serving.rollout import RolloutRequest
from themisto_hub.control.audit import verify_copy


def endpoint(world, name="credit"):
    return world.endpoints.get(world.caller(), name)


def test_first_release_becomes_stable_with_all_traffic(world):
    world.live()
    now = endpoint(world)
    assert (now.stable, now.candidate, now.rollout.state) == (1, None, "done")
    assert now.rollout.message.startswith("first release")


def test_second_release_runs_beside_stable_with_its_weight(world):
    world.live(cell="a")
    world.live(cell="b")
    now = endpoint(world)
    assert (now.stable, now.candidate, now.weight_pct, now.rollout.state) == (1, 2, 5, "running")


def test_shadow_candidate_has_no_weight(world):
    world.live(cell="a")
    world.live(cell="b", rollout=RolloutRequest(strategy="shadow", weight_pct=50))
    now = endpoint(world)
    assert (now.candidate, now.weight_pct, now.strategy) == (2, 0, "shadow")


def test_replace_takes_all_traffic_at_once(world):
    world.live(cell="a")
    world.live(cell="b", rollout=RolloutRequest(strategy="replace"))
    now = endpoint(world)
    assert (now.stable, now.candidate, now.rollout.state) == (2, None, "done")


def test_canary_that_begins_with_all_traffic_replaces(world):
    world.live(cell="a")
    world.live(cell="b", rollout=RolloutRequest(weight_pct=100))
    assert (endpoint(world).stable, endpoint(world).rollout.state) == (2, "done")


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": [30, 5]},
        {"steps": [5, 5, 100]},
        {"steps": [0, 100]},
        {"steps": [5, 101]},
        {"steps": [5], "weight_pct": 6},
        {"steps": 5},
        {"steps": [5], "strategy": "shadow"},
        {"steps": list(range(1, 50))},
        {"weight_pct": 0},
        {"dwell_s": -1},
        {"tolerated": {"errors": 0}},
        {"tolerated": {"errors": float("nan")}},
    ],
)
def test_steps_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValidationError):
        RolloutRequest(**fields)


def test_promote_makes_the_candidate_stable(world):
    world.live(cell="a")
    world.promoted(cell="b")
    now = endpoint(world)
    assert (now.stable, now.candidate, now.rollout.state, now.rollout.weight_pct) == (2, None, "done", 100)


def test_promote_twice_is_the_same_as_once(world):
    world.live(cell="a")
    world.promoted(cell="b")
    events = len(world.audit())
    assert world.rollouts.promote(world.caller(), "credit", world.rollout_id()).stable == 2
    assert len(world.audit()) == events


def test_promote_while_loading_is_a_conflict(world):
    world.release()
    with pytest.raises(Conflict, match="loading"):
        world.rollouts.promote(world.caller(), "credit", world.rollout_id())


@pytest.mark.parametrize("verb", ["step", "pause", "resume"])
def test_steps_of_a_rollout_that_is_over_are_a_conflict_that_says_how_to_go_on(world, verb):
    world.live(cell="a")
    rollout, more = world.rollout_id(), {"to": 3} if verb == "step" else {}
    with pytest.raises(Conflict, match="credit has no rollout under way: that of release 1 is done") as told:
        getattr(world.rollouts, verb)(world.caller(), "credit", rollout, **more)
    assert "%%deploy credit" in told.value.remedy


def test_why_a_rollout_failed_is_said_to_whoever_moves_it(world):
    world.live(cell="a")
    world.release(cell="b")
    world.progress.failed(world.rollout_id(), "load", "Triton: wrong dims.")
    with pytest.raises(Conflict) as told:
        world.rollouts.promote(world.caller(), "credit", world.rollout_id())
    assert told.value.detail.endswith("that of release 2 is failed: Triton: wrong dims.")


def test_promote_by_another_group_is_refused_and_recorded(world):
    world.live(cell="a")
    world.live(cell="b")
    with pytest.raises(Refused):
        world.rollouts.promote(world.caller("rival", "other-team"), "credit", world.rollout_id())
    assert (world.last_audit().action, world.last_audit().outcome) == ("rollout.promote", "refused")
    assert endpoint(world).stable == 1


def test_promote_of_another_endpoints_rollout_is_not_found(world):
    world.live("fraud", cell="a")
    world.live(cell="a")
    with pytest.raises(NotFound):
        world.rollouts.promote(world.caller(), "credit", world.rollout_id("fraud"))


def test_old_stable_stays_loaded_after_promotion(world):
    world.live(cell="a")
    world.promoted(cell="b")
    held = {(live.release.number, live.carries_traffic) for live in world.progress.live()}
    assert held == {(1, False), (2, True)}


def test_rollback_of_a_canary_leaves_stable_alone(world):
    world.live(cell="a")
    world.live(cell="b")
    now = world.rollouts.rollback(world.caller(), "credit", reason="odd scores")
    assert (now.stable, now.candidate, now.weight_pct, now.rollout.state) == (1, None, 0, "rolled_back")
    assert "odd scores" in now.rollout.message


def test_rollback_of_stable_brings_the_release_before_back(world):
    world.live(cell="a")
    world.promoted(cell="b")
    now = world.rollouts.rollback(world.caller(), "credit")
    assert (now.stable, now.rollout.state) == (1, "rolled_back")


def test_rollback_goes_back_one_release_each_time(world):
    for cell in "abc":
        world.live(cell=cell, rollout=RolloutRequest(strategy="replace"))
    assert [world.rollouts.rollback(world.caller(), "credit").stable for _ in range(2)] == [2, 1]
    with pytest.raises(Conflict, match="no earlier release"):
        world.rollouts.rollback(world.caller(), "credit")


def test_rollback_before_the_load_withdraws_the_release(world):
    world.release()
    assert world.rollouts.rollback(world.caller(), "credit").rollout.state == "rolled_back"
    assert world.progress.unfinished() == []


def test_release_that_was_rolled_back_can_be_deployed_again(world):
    world.live(cell="a")
    world.live(cell="b")
    world.rollouts.rollback(world.caller(), "credit")
    again = world.live(cell="b")
    assert (again.number, endpoint(world).candidate) == (2, 2)


def test_failed_load_leaves_stable_alone_and_says_why(world):
    world.live(cell="a")
    world.release(cell="b")
    world.progress.failed(world.rollout_id(), "load", "Triton: wrong dims")
    now = endpoint(world)
    assert (now.stable, now.candidate) == (1, None)
    assert (now.rollout.state, now.rollout.message) == ("failed", "Triton: wrong dims")


def test_reconciler_does_not_revive_a_rollout_that_a_person_ended(world):
    world.live(cell="a")
    world.release(cell="b")
    rollout = world.rollout_id()
    world.rollouts.rollback(world.caller(), "credit")
    world.progress.loaded(rollout, "answers")
    assert (endpoint(world).candidate, endpoint(world).rollout.state) == (None, "rolled_back")


def test_retired_endpoint_holds_nothing(world):
    world.live(cell="a")
    now = world.rollouts.retire(world.caller(), "credit")
    assert (now.retired, now.stable, world.progress.live()) == (True, None, [])


def test_retired_endpoint_comes_back_with_a_release(world):
    world.live(cell="a")
    world.rollouts.retire(world.caller(), "credit")
    world.live(cell="b")
    assert (endpoint(world).retired, endpoint(world).stable) == (False, 2)


def test_every_step_is_in_an_audit_chain_that_verifies(world):
    world.live(cell="a")
    world.promoted(cell="b")
    world.rollouts.rollback(world.caller(), "credit")
    actions = [row.action for row in world.audit()]
    assert actions == [
        "endpoint.claim", "release.create", "rollout.open", "rollout.done",
        "release.create", "rollout.open", "rollout.running", "rollout.promote", "rollout.rollback",
    ]  # fmt: skip
    with world.control.db.read() as session:
        assert world.control.audit.verify(session).intact


def test_change_is_told_after_its_commit(world):
    told = []
    world.changes.subscribe(lambda: told.append(endpoint(world).stable))
    world.live(cell="a")
    assert told[-1] == 1


def test_copy_of_the_chain_with_an_edited_promotion_does_not_verify(world, tmp_path):
    world.live(cell="a")
    world.promoted(cell="b")
    copy = tmp_path / "copy.db"
    with sqlite3.connect(world.control.settings.folder("control") / "control.db") as original:
        original.execute("VACUUM INTO ?", (str(copy),))
    with sqlite3.connect(copy) as edited:
        edited.execute("UPDATE audit_event SET actor = 'colleague' WHERE action = 'rollout.promote'")
        number = edited.execute("SELECT number FROM audit_event WHERE action = 'rollout.promote'").fetchone()[0]
    verdict = verify_copy(f"sqlite:///{copy}", world.control.settings.folder("control") / "audit", world.clock)
    assert (verdict.intact, verdict.broken_at) == (False, number)
