"""The analysis of rollouts: what moves, what goes back, what asks, over a real database and a real log."""

from __future__ import annotations

import threading

import pytest
from tests.unit.control.serving.conftest import World
from tests.unit.control.serving.traffic import Traffic

from themisto.serving.models import Column, Golden, Signature
from themisto.serving.rollout import RolloutRequest
from themisto_hub.control.serving.analyst import Analyst

SIGNATURE = Signature(inputs=(Column(name="x", dtype="FP32"),), outputs=(Column(name="label", dtype="INT64"),))
LABELLED = {"signature": SIGNATURE, "golden": Golden(inputs={"x": [1.0]}, outputs={"label": [1]})}


@pytest.fixture
def canary(world):
    """`credit@2` at 5 % beside `credit@1`."""
    return started(world)


def started(world, *, first=None, **rollout):
    world.live(cell="a", **first or {})
    world.live(cell="b", rollout=RolloutRequest(**rollout), **first or {})
    return Traffic(world)


def test_good_canary_goes_to_all_traffic_by_itself(canary):
    canary.enough()
    at_30 = canary.look()
    assert (at_30.weight_pct, at_30.rollout.step, at_30.rollout.state) == (30, 1, "running")
    canary.enough()
    done = canary.look()
    assert (done.stable, done.candidate, done.rollout.state, done.rollout.step) == (2, None, "done", 2)
    assert "errors: 0 of 2,000 against 0 of 300 at stable" in done.rollout.message
    (step,), (end,) = canary.events("rollout.step"), canary.events("rollout.done")[1:]
    assert (step.actor, end.actor, step.after["weight_pct"]) == ("themisto", "themisto", 30)


def test_steps_are_those_asked_for(world):
    traffic = started(world, steps=(10, 20, 50))
    seen = []
    for _ in range(3):
        seen.append(traffic.endpoint().weight_pct)
        traffic.enough()
        traffic.look()
    assert (seen, traffic.endpoint().stable) == ([10, 20, 50], 2)


def test_answers_of_one_step_do_not_count_in_the_next(canary):
    canary.enough()
    canary.look()
    assert canary.look().rollout.verdict.measured[0].candidate.of == 0


def test_step_lasts_as_long_as_was_asked_for(world):
    traffic = started(world, dwell_s=3600)
    traffic.enough()
    assert traffic.look().weight_pct == 5
    world.clock.pass_(hours=1)
    assert traffic.look().weight_pct == 30


def test_failing_canary_goes_back_at_the_next_look_and_says_why(canary):
    canary.answers(1, 760)
    canary.answers(2, 32, failed=8)
    back = canary.look()
    assert (back.stable, back.candidate, back.weight_pct, back.rollout.state) == (1, None, 0, "rolled_back")
    assert back.rollout.message.startswith("went back by itself: errors: 8 of 40 against 0 of 760 at stable; such a")
    (event,) = canary.events("rollout.breach")
    assert (event.actor, event.after["state"], event.after["stable"]) == ("themisto", "rolled_back", 1)
    assert event.after["verdict"]["finding"] == "worse"


def test_canary_that_only_fails_goes_back_whatever_its_callers(canary):
    canary.answers(2, 0, failed=20, key="the only customer")
    back = canary.look()
    assert back.rollout.state == "rolled_back"
    assert "last 20 answers were all errors" in back.rollout.message


def test_callers_mistakes_are_no_breach(canary):
    canary.answers(1, 1000)
    canary.answers(2, 100, status=400)
    assert canary.look().rollout.state == "running"


def test_stable_that_fails_as_often_is_no_breach(canary):
    canary.answers(1, 900, failed=100)
    canary.answers(2, 90, failed=10)
    assert canary.look().rollout.state == "running"


def test_slow_canary_goes_back(canary):
    canary.answers(1, 1000)
    canary.answers(2, 60, latency_ms=200.0)
    back = canary.look()
    assert back.rollout.state == "rolled_back"
    assert "slow (over 5.0 ms): 60 of 60 against 0 of 800 at stable" in back.rollout.message


def test_slow_canary_within_its_own_goal_stays(world):
    world.live(cell="a")
    world.live(cell="b", slo={"p99": "250ms"})
    traffic = Traffic(world)
    traffic.answers(1, 1000)
    traffic.answers(2, 60, latency_ms=200.0)
    assert traffic.look().rollout.state == "running"


def test_canary_with_other_answers_goes_back(world):
    traffic = started(world, first=LABELLED)
    traffic.answers(1, 1000, outputs='{"label": [0]}')
    traffic.answers(2, 60, outputs='{"label": [1]}')
    back = traffic.look()
    assert back.rollout.state == "rolled_back"
    assert "output label (not: answers 0): 60 of 60 against 0 of 800 at stable" in back.rollout.message


def test_handful_of_other_answers_is_no_breach(world):
    traffic = started(world, first=LABELLED)
    traffic.answers(1, 1000, outputs='{"label": [0]}')
    traffic.answers(2, 15, outputs='{"label": [1]}')
    assert traffic.look().rollout.state == "running"


def test_what_is_tolerated_is_the_releases_own(world):
    traffic = started(world, tolerated={"errors": 0.5})
    traffic.answers(1, 760)
    traffic.answers(2, 32, failed=8)
    assert traffic.look().rollout.state == "running"


def test_manual_canary_shows_its_verdict_and_waits_for_a_person(world):
    traffic = started(world, manual=True)
    traffic.enough()
    shown = traffic.look()
    assert (shown.weight_pct, shown.rollout.state, shown.rollout.verdict.finding) == (5, "running", "fine")
    assert world.rollouts.promote(world.caller(), "credit", world.rollout_id()).stable == 2


def test_manual_canary_goes_back_on_a_breach(world):
    traffic = started(world, manual=True)
    traffic.answers(1, 760)
    traffic.answers(2, 30, failed=30)
    assert traffic.look().rollout.state == "rolled_back"


def test_manual_canary_of_several_days_is_judged_day_by_day(world):
    traffic = started(world, manual=True)
    traffic.enough()
    traffic.look()
    world.clock.pass_(days=2)
    assert traffic.look().rollout.verdict.measured[0].candidate.of == 0
    traffic.answers(1, 300)
    traffic.answers(2, 20, failed=20)
    assert traffic.look().rollout.state == "rolled_back"


def test_ab_is_never_promoted_by_itself(world):
    traffic = started(world, strategy="ab", weight_pct=50, first=LABELLED)
    traffic.answers(1, 1000, outputs='{"label": [0]}')
    traffic.answers(2, 2000, outputs='{"label": [1]}')
    world.clock.pass_(hours=30)
    now = traffic.look()
    assert (now.weight_pct, now.rollout.state, now.rollout.stage) == (50, "running", "traffic")


def test_ab_goes_back_on_errors(world):
    traffic = started(world, strategy="ab", weight_pct=50)
    traffic.answers(1, 500)
    traffic.answers(2, 400, failed=100)
    assert traffic.look().rollout.state == "rolled_back"


def test_shadow_is_shown_and_never_moved(world):
    traffic = started(world, strategy="shadow")
    traffic.answers(1, 500)
    traffic.answers(2, 100, failed=100)
    now = traffic.look()
    assert (now.rollout.state, now.strategy, now.rollout.verdict.finding) == ("running", "shadow", "worse")


def test_too_few_answers_for_a_day_ask_a_person_once(canary, world):
    canary.answers(2, 7)
    assert canary.look().rollout.stage == "traffic"
    world.clock.pass_(hours=25)
    held = canary.look()
    canary.look()
    assert (held.weight_pct, held.rollout.state, held.rollout.stage) == (5, "running", "decide")
    assert "25 h brought too few answers to decide (errors: 0 of 7 against no answers at stable" in held.rollout.message
    assert [event.actor for event in canary.events("rollout.hold")] == ["themisto"]


def test_step_that_nobody_has_asked_is_told_in_words(canary):
    words = canary.look().rollout.verdict.words
    assert words.startswith("nobody has asked since this step began. To decide it takes at most 2,000 more answers")


def test_held_canary_goes_on_when_answers_come(canary, world):
    world.clock.pass_(hours=25)
    canary.look()
    canary.enough()
    now = canary.look()
    assert (now.weight_pct, now.rollout.stage) == (30, "traffic")


def test_restarted_control_plane_counts_the_same(canary, world):
    canary.answers(1, 250, failed=1)
    canary.answers(2, 40)
    before = canary.look().rollout.verdict.measured
    canary.analyst = Analyst(world.control, canary.steps)
    canary.answers(2, 1)
    after = canary.look().rollout.verdict.measured
    assert [m.candidate.of for m in (before[0], after[0])] == [40, 41]
    assert after[0].stable == before[0].stable


def test_log_that_cannot_be_read_moves_nothing_and_says_so(canary):
    canary.answers(1, 1)
    (hour,) = canary.folder.iterdir()
    (hour / "part-broken.parquet").write_bytes(b"no parquet")
    for _ in range(3):
        now = canary.look()
    assert (now.rollout.state, now.weight_pct) == ("running", 5)
    assert "cannot be read" in now.rollout.verdict.words
    (hour / "part-broken.parquet").unlink()
    canary.enough()
    assert canary.look().weight_pct == 30


def test_rows_that_make_no_sense_are_no_reason_to_stop(world):
    traffic = started(world, first=LABELLED)
    traffic.answers(1, 300, outputs='{"label": {"a": 1}}')
    traffic.answers(2, 2000, outputs="not json", latency_ms=float("nan"), flags=",,")
    assert traffic.look().weight_pct == 30


def test_person_who_was_faster_is_not_undone(canary, world):
    canary.enough()
    (running,) = canary.steps.running()
    verdict = verdict_of(canary)
    world.rollouts.rollback(world.caller(), "credit")
    events = len(world.audit())
    for act in (canary.steps.forward, canary.steps.back, canary.steps.ask, canary.steps.show):
        act(running, verdict)
    assert (canary.endpoint().stable, canary.endpoint().candidate, len(world.audit())) == (1, None, events)


def test_prod_release_without_an_approval_never_gets_more_traffic(world):
    traffic = started(world, first={"tier": "prod"})
    with world.control.db.write() as session:
        from themisto_hub.control.serving.records import rollout_row

        rollout_row(session, world.rollout_id()).approved = False
    traffic.enough()
    assert traffic.look().weight_pct == 5


def test_approved_prod_release_takes_its_steps_by_itself(world):
    traffic = started(world, first={"tier": "prod"})
    for _ in range(2):
        traffic.enough()
        traffic.look()
    assert traffic.endpoint().stable == 2


def verdict_of(traffic):
    seen = []
    spy = traffic.steps.forward
    traffic.steps.forward = lambda running, verdict: seen.append(verdict)
    traffic.analyst.look()
    traffic.steps.forward = spy
    return seen[0]


# What a kill leaves behind


def at_30(traffic):
    traffic.enough()
    traffic.look()


def to_hold(traffic):
    traffic.answers(2, 7)
    traffic.world.clock.pass_(hours=25)


def to_breach(traffic):
    traffic.answers(1, 760)
    traffic.answers(2, 10, failed=30)


def to_last(traffic):
    at_30(traffic)
    traffic.enough()


TRANSITIONS = [
    pytest.param(Traffic.enough, "rollout.step", (1, 30, "running"), id="5 to 30"),
    pytest.param(to_last, "rollout.done", (2, 0, "done"), id="30 to all"),
    pytest.param(to_breach, "rollout.breach", (1, 0, "rolled_back"), id="back"),
    pytest.param(to_hold, "rollout.hold", (1, 5, "running"), id="hold"),
]


class Killed(BaseException):
    """What no handler catches: as a kill, nothing after it runs."""


def place(endpoint):
    return endpoint.stable, endpoint.weight_pct, endpoint.rollout.state


@pytest.mark.parametrize(("prepare", "action", "end"), TRANSITIONS)
def test_kill_before_the_commit_changes_nothing_and_the_next_start_goes_on(
    canary, world, monkeypatch, prepare, action, end
):
    prepare(canary)
    before, events = place(canary.endpoint()), len(world.audit())
    with monkeypatch.context() as patched:
        real = world.control.audit.append

        def killed(*args, **kwargs):
            real(*args, **kwargs)
            raise Killed

        patched.setattr(world.control.audit, "append", killed)
        with pytest.raises(Killed):
            canary.look()
    assert (place(canary.endpoint()), len(world.audit())) == (before, events)
    restarted(world, canary, action, end)


@pytest.mark.parametrize(("prepare", "action", "end"), TRANSITIONS)
def test_kill_after_the_commit_loses_nothing_and_repeats_nothing(canary, world, monkeypatch, prepare, action, end):
    prepare(canary)

    def killed(*args):
        raise Killed

    monkeypatch.setattr(world.changes, "tell", killed)
    with pytest.raises(Killed):
        canary.look()
    restarted(world, canary, action, end)


def restarted(world, traffic, action, end):
    """Another control plane over what the killed one left: the end is reached, once, in an unbroken chain."""
    known = len(world.audit())
    again = Traffic(World(world.control.settings.state))
    again.world.clock.now = world.clock.now
    try:
        assert place(again.look()) == end
        again.look()
        assert place(again.endpoint()) == end
        assert [e.actor for e in again.events(action) if e.after["release"] == "credit@2"] == ["themisto"]
        assert len(again.world.audit()) - known <= 1
        with again.world.control.db.read() as session:
            assert again.world.control.audit.verify(session).intact
        table = again.world.control.serving.routing.table().endpoints[0]
        assert {t.release for t in table.releases} <= {"credit--1", "credit--2"}
    finally:
        again.world.control.close()


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_two_control_planes_step_once(request, tmp_path, database):
    url = {"database": request.getfixturevalue("postgresql_url")} if database == "postgresql" else {}
    both = [World(tmp_path / "state", **url) for _ in range(2)]
    traffic = [started(both[0]), Traffic(both[1])]
    both[1].clock.now = both[0].clock.now
    traffic[0].enough()
    running = [one.steps.running()[0] for one in traffic]
    verdict, barrier = verdict_of(traffic[0]), threading.Barrier(2)

    def step(number):
        barrier.wait(10)
        traffic[number].steps.forward(running[number], verdict)

    threads = [threading.Thread(target=step, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert place(traffic[0].endpoint()) == (1, 30, "running")
    assert len(traffic[0].events("rollout.step")) == 1
    for world in both:
        world.control.close()


def test_promotion_by_hand_and_by_itself_at_once_is_one_promotion(canary, world):
    at_30(canary)
    canary.enough()
    (running,) = canary.steps.running()
    verdict = verdict_of(canary)
    world.rollouts.promote(world.caller(), "credit", world.rollout_id())
    canary.steps.forward(running, verdict)
    assert place(canary.endpoint()) == (2, 0, "done")
    assert [e.actor for e in world.audit() if e.action in ("rollout.promote", "rollout.done")][1:] == ["scientist"]
