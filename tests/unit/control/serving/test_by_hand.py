"""Steps that a person takes: step, pause and resume, beside an analysis that goes on."""

from __future__ import annotations

import threading

import pytest
from tests.unit.control.serving.traffic import Traffic

from themisto.errors import Conflict, NotFound, Refused
from themisto.serving.models import RolloutRequest
from themisto_hub.control.serving.steps import Steps


@pytest.fixture
def canary(world):
    """`credit@2` at 5 % beside `credit@1`; each step is a person's."""
    return started(world, manual=True)


def started(world, **rollout):
    world.live(cell="a")
    world.live(cell="b", rollout=RolloutRequest(**rollout))
    return Traffic(world)


def step(world, to, **who):
    return world.rollouts.step(who.get("caller") or world.caller(), "credit", world.rollout_id(), to=to)


def actions(world):
    return [row.action for row in world.audit() if row.actor == "scientist" and row.outcome == "done"]


def test_steps_by_hand_lead_to_all_traffic(canary, world):
    at_30 = step(world, 1)
    assert (at_30.weight_pct, at_30.rollout.step, at_30.rollout.state, at_30.rollout.manual) == (30, 1, "running", True)
    assert at_30.rollout.message == "step after 5 % taken by scientist"
    done = step(world, 2)
    assert (done.stable, done.candidate, done.rollout.state, done.rollout.step) == (2, None, "done", 2)
    assert actions(world)[-2:] == ["rollout.step", "rollout.promote"]
    event = world.last_audit()
    assert (event.before["weight_pct"], event.after["stable"]) == (30, 2)


def test_a_step_asked_for_twice_is_one_step(canary, world):
    step(world, 1)
    events = len(world.audit())
    assert step(world, 1).weight_pct == 30
    step(world, 2)
    assert step(world, 2).stable == 2
    assert len(world.audit()) == events + 1


def test_a_step_that_the_analysis_took_meanwhile_is_not_followed_by_another(world):
    traffic = started(world)
    traffic.enough()
    traffic.look()
    assert step(world, 1).weight_pct == 30  # it is what she asked for
    traffic.enough()
    traffic.look()
    with pytest.raises(Conflict, match="done"):
        step(world, 1)


@pytest.mark.parametrize("to", [0, 2, 3, -1])
def test_no_step_is_left_out_and_none_taken_back(canary, world, to):
    with pytest.raises(Conflict, match=r"credit@2 is at step 1, 5 %, by now"):
        step(world, to)
    assert canary.endpoint().weight_pct == 5


def test_two_people_at_once_take_one_step(canary, world):
    barrier, got = threading.Barrier(2), []

    def ask():
        barrier.wait(10)
        got.append(step(world, 1).weight_pct)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert got == [30, 30]
    assert actions(world).count("rollout.step") == 1


@pytest.mark.parametrize("strategy", ["ab", "shadow"])
@pytest.mark.parametrize("act", ["step", "pause", "resume"])
def test_a_rollout_without_steps_says_how_it_moves(world, strategy, act):
    started(world, strategy=strategy)
    more = {"to": 1} if act == "step" else {}
    with pytest.raises(Conflict, match=f"takes no steps: its rollout is by {strategy}") as refused:
        getattr(world.rollouts, act)(world.caller(), "credit", world.rollout_id(), **more)
    assert "%deploy promote credit" in refused.value.remedy


@pytest.mark.parametrize("act", ["step", "pause", "resume"])
def test_what_does_not_run_has_no_steps_to_take(world, act):
    world.live(cell="a")
    world.release(cell="b")
    more = {"to": 1} if act == "step" else {}
    with pytest.raises(Conflict, match="loading"):
        getattr(world.rollouts, act)(world.caller(), "credit", world.rollout_id(), **more)


@pytest.mark.parametrize("act", ["step", "pause", "resume"])
def test_another_group_is_refused_and_recorded(canary, world, act):
    more = {"to": 1} if act == "step" else {}
    with pytest.raises(Refused):
        getattr(world.rollouts, act)(world.caller("rival", "other-team"), "credit", world.rollout_id(), **more)
    assert (world.last_audit().action, world.last_audit().outcome) == (f"rollout.{act}", "refused")
    assert canary.endpoint().weight_pct == 5


@pytest.mark.parametrize("act", ["step", "pause", "resume"])
def test_another_endpoints_rollout_is_not_found(canary, world, act):
    world.live("fraud", cell="a")
    more = {"to": 1} if act == "step" else {}
    with pytest.raises(NotFound):
        getattr(world.rollouts, act)(world.caller(), "credit", world.rollout_id("fraud"), **more)


def test_a_paused_canary_takes_no_step_and_still_goes_back(world):
    traffic = started(world)
    paused = world.rollouts.pause(world.caller(), "credit", world.rollout_id(), reason="a look at the scores")
    assert (paused.rollout.manual, paused.rollout.message) == (True, "paused by scientist: a look at the scores")
    assert world.last_audit().after["reason"] == "a look at the scores"
    traffic.enough()
    still = traffic.look()
    assert (still.weight_pct, still.rollout.verdict.finding) == (5, "fine")
    traffic.answers(2, 0, failed=20)
    assert traffic.look().rollout.state == "rolled_back"


def test_a_resumed_canary_goes_on_with_what_it_had_counted(world):
    traffic = started(world)
    world.rollouts.pause(world.caller(), "credit", world.rollout_id())
    traffic.enough()
    traffic.look()
    resumed = world.rollouts.resume(world.caller(), "credit", world.rollout_id())
    assert (resumed.rollout.manual, resumed.weight_pct) == (False, 5)
    assert traffic.look().weight_pct == 30
    assert actions(world)[-2:] == ["rollout.pause", "rollout.resume"]


def test_a_rollout_that_was_by_hand_can_be_left_to_the_analysis(canary, world):
    world.rollouts.resume(world.caller(), "credit", world.rollout_id())
    canary.enough()
    assert canary.look().weight_pct == 30


@pytest.mark.parametrize("act", ["pause", "resume"])
def test_pausing_twice_is_pausing_once(world, act):
    started(world, manual=act == "resume")
    for _ in range(2):
        getattr(world.rollouts, act)(world.caller(), "credit", world.rollout_id())
    assert actions(world).count(f"rollout.{act}") == 1


def test_a_pause_stops_what_the_analysis_had_just_decided(world):
    traffic = started(world)
    traffic.enough()
    (running,) = traffic.steps.running()
    taken = []
    real = traffic.steps.forward

    def paused_first(running, verdict):
        world.rollouts.pause(world.caller(), "credit", world.rollout_id())
        taken.append(verdict)
        real(running, verdict)

    traffic.steps.forward = paused_first
    assert traffic.look().weight_pct == 5
    Steps(world.control, world.changes).ask(running, taken[0])
    assert traffic.endpoint().rollout.stage == "traffic"
    assert traffic.events("rollout.step") == traffic.events("rollout.hold") == []


def test_each_step_by_hand_is_counted_anew(canary, world):
    canary.answers(1, 300)
    canary.answers(2, 50)
    canary.look()
    step(world, 1)
    assert canary.look().rollout.verdict.measured[0].candidate.of == 0


def test_a_held_canary_says_what_a_person_can_do_and_goes_on_by_hand(world):
    traffic = started(world)
    traffic.answers(2, 7)
    world.clock.pass_(hours=25)
    held = traffic.look()
    assert held.rollout.stage == "decide"
    assert held.rollout.message.endswith(
        "It goes on by itself once there are enough. By hand: %deploy step credit, promote, or rollback"
    )
    now = step(world, 1)
    assert (now.weight_pct, now.rollout.stage, now.rollout.manual) == (30, "traffic", False)


def test_of_production_only_what_was_approved_is_stepped(world):
    world.live(cell="a", tier="prod")
    world.release(cell="b", tier="prod", rollout=RolloutRequest(manual=True))
    work = world.progress.unfinished()[-1]
    world.progress.proved(work.rollout, "proved")
    with pytest.raises(Conflict, match="waiting approval"):
        step(world, 1)
    _, ticket = world.approvals.open(world.login(), work.rollout)
    world.approvals.decide(ticket, "approve")
    world.progress.loaded(work.rollout, "answers")
    assert step(world, 1).weight_pct == 30
