"""Gates before traffic, as the database keeps them: what is gated is proved, what fails gets nothing."""

from __future__ import annotations

import pytest

from themisto.errors import Conflict, Invalid, NotFound, Refused
from themisto.serving.gates import Slice


def test_a_dev_release_with_gates_is_proved_before_it_is_loaded(world, new_quality):
    world.release(quality=new_quality())
    (work,) = world.progress.unfinished()
    assert (work.needs_proof, work.gated) == (True, True)
    world.progress.loaded(work.rollout, "answers")  # as a mover would that forgot the gates
    assert (world.rollout().state, world.endpoints.get(world.caller(), "credit").stable) == ("loading", None)


def test_a_dev_release_without_gates_is_not(world):
    world.release()
    (work,) = world.progress.unfinished()
    assert not work.needs_proof


def test_gates_that_are_passed_let_it_go_on_and_are_kept(world, new_quality):
    world.release(quality=new_quality())
    (work,) = world.progress.unfinished()
    world.progress.proved(work.rollout, "", [world.result()])
    assert world.rollout().state == "loading"
    (work,) = world.progress.unfinished()
    assert not work.needs_proof
    world.progress.loaded(work.rollout, "answers")
    rollout = world.rollout()
    assert (rollout.state, [g.gate for g in rollout.gates]) == ("done", ["auc >= 0.8"])
    assert [a for a in world.actions() if a.startswith(("gate", "rollout"))] == [
        "rollout.open",
        "gate.judge",
        "rollout.proved",
        "rollout.done",
    ]


def test_a_gate_that_is_not_passed_ends_the_rollout_in_words_and_stable_stays(world, new_quality):
    world.live(cell="a")
    world.release(cell="b", quality=new_quality())
    (work,) = world.progress.unfinished()
    failed = world.result(passed=False, says="auc is 0.7, not >= 0.8", release=2)
    world.progress.proved(work.rollout, "", [failed, world.result("f1 >= 0.1", release=2)])
    now = world.endpoints.get(world.caller(), "credit")
    assert (now.stable, now.candidate, now.rollout.state, now.rollout.stage) == (1, None, "failed", "gate")
    assert now.rollout.message == "gate not passed: auc is 0.7, not >= 0.8"
    assert world.progress.unfinished() == []
    assert world.actions()[-2:] == ["gate.judge", "rollout.failed"]


def test_prod_waits_for_a_person_only_after_its_gates(world, new_quality):
    world.release(tier="prod", quality=new_quality())
    (work,) = world.progress.unfinished()
    world.progress.proved(work.rollout, "Proved.", [world.result()])
    rollout = world.rollout()
    assert rollout.state == "waiting_approval"
    assert rollout.message == "Proved. 1 of 1 gates passed on the hold-out: auc >= 0.8 is as asked."
    review, _ = world.approvals.open(world.login(), work.rollout)
    assert ("auc >= 0.8 (hold-out)", "passed: auc >= 0.8 is as asked") in [(c.name, c.after) for c in review.gates]


def test_a_proof_that_comes_twice_is_kept_once(world, new_quality):
    """As after a kill: two processes may have judged the same rollout."""
    world.release(quality=new_quality())
    (work,) = world.progress.unfinished()
    for _ in range(2):
        world.progress.proved(work.rollout, "", [world.result()])
    assert len(world.rollout().gates) == 1
    assert world.actions().count("gate.judge") == 1


def test_a_verdict_after_a_person_ended_the_rollout_changes_nothing(world, new_quality):
    world.release(quality=new_quality())
    (work,) = world.progress.unfinished()
    world.rollouts.rollback(world.caller(), "credit")
    world.progress.proved(work.rollout, "", [world.result(passed=False)])
    assert world.rollout().state == "rolled_back"
    assert world.rollout().gates == ()


def test_a_release_judged_once_is_judged_again_when_it_is_deployed_again(world, new_quality):
    world.release(quality=new_quality())
    (work,) = world.progress.unfinished()
    world.progress.proved(work.rollout, "", [world.result(passed=False)])
    world.release(quality=new_quality())
    (again,) = world.progress.unfinished()
    assert again.needs_proof
    assert world.rollout().gates == ()


# hold-outs


def test_a_hold_out_that_is_not_there_is_refused_before_the_release_is_recorded(world, new_quality):
    with pytest.raises(NotFound, match="no hold-out cccccccccccc…"):
        world.release(quality=new_quality(holdout_sha256="c" * 64))
    with pytest.raises(NotFound):
        world.endpoints.get(world.caller(), "credit")


def test_another_groups_hold_out_is_not_there(world, new_quality):
    world.store("c" * 64, "other-team")
    with pytest.raises(NotFound, match="'data-science' has no hold-out"):
        world.release(quality=new_quality(holdout_sha256="c" * 64))


def test_knowing_a_digest_is_not_having_the_rows(world):
    world.store("c" * 64, "other-team")
    with pytest.raises(NotFound):
        world.holdouts.files("data-science").read("c" * 64)


def test_a_column_that_the_hold_out_lacks_is_refused(world, new_quality):
    with pytest.raises(Invalid, match="no column 'regoin'"):
        world.release(quality=new_quality(by=("regoin",)))


def test_training_data_is_no_hold_out(world, new_quality):
    with pytest.raises(Invalid, match="The hold-out is the training data"):
        world.release(quality=new_quality(), data_sha256="b" * 64)


def test_a_hold_out_is_stored_for_members_only_and_each_refusal_is_recorded(world):
    from themisto.serving.holdout import HoldOutRequest

    request = HoldOutRequest(sha256="d" * 64, group="other-team", name="x", rows=1, columns=("y",))
    with pytest.raises(Refused):
        world.holdouts.register(world.caller(), request)
    assert (world.last_audit().action, world.last_audit().outcome) == ("holdout.store", "refused")


def test_registering_twice_is_one_hold_out_with_the_newer_name_and_both_digests(world):
    world.store(name="newer", digests=("c" * 64,))
    (stored,) = world.holdouts.page(world.caller(), "data-science")
    assert (stored.name, {d[0] for d in stored.digests}) == ("newer", {"b", "c"})


def test_what_no_release_and_no_policy_names_is_swept_after_a_day(world, new_quality):
    import os

    folder = world.control.settings.folder("control") / "holdouts" / "data-science"
    (folder / ("e" * 64)).write_bytes(b"never registered")
    world.store("c" * 64)
    world.store("d" * 64)
    world.live(cell="a")
    world.policies.pin(world.caller(), "credit", new_quality(holdout_sha256="d" * 64))
    world.policies.unpin(world.caller(), "credit")
    world.release(cell="b", quality=new_quality())
    for file in folder.iterdir():
        os.utime(file, (0, 0))
    assert world.holdouts.sweep() == 1
    world.clock.pass_(days=2)
    assert world.holdouts.sweep() == 1
    assert {f.name[0] for f in folder.iterdir()} == {"a", "d"}
    assert [h.sha256[0] for h in world.holdouts.page(world.caller(), "data-science")] == ["d", "a"]
    assert [a for a in world.actions() if a.startswith("holdout")].count("holdout.forget") == 1


# pinned


def test_a_pinned_gate_binds_a_release_that_brings_none(world, new_quality):
    world.live(cell="a")
    world.policies.pin(world.caller(), "credit", new_quality())
    world.release(cell="b")
    (work,) = world.progress.unfinished()
    assert work.gated
    assert world.endpoints.get(world.caller(), "credit").pinned == new_quality()


def test_what_is_pinned_does_not_change_under_a_release_on_its_way(world, new_quality):
    world.live(cell="a")
    world.policies.pin(world.caller(), "credit", new_quality())
    world.release(cell="b")
    with pytest.raises(Conflict, match="credit@2 is on its way"):
        world.policies.unpin(world.caller(), "credit")
    assert world.endpoints.get(world.caller(), "credit").pinned is not None


def test_pinning_is_recorded_with_before_and_after(world, new_quality):
    world.live()
    world.policies.pin(world.caller(), "credit", new_quality())
    world.policies.pin(world.caller(), "credit", new_quality("auc >= 0.5"))
    event = world.last_audit()
    assert (event.action, event.before["gates"], event.after["gates"]) == ("gates.pin", ["auc >= 0.8"], ["auc >= 0.5"])
    world.policies.unpin(world.caller(), "credit")
    assert (world.last_audit().action, world.last_audit().after) == ("gates.unpin", None)


def test_pinning_the_same_again_changes_nothing(world, new_quality):
    world.live()
    world.policies.pin(world.caller(), "credit", new_quality())
    events = len(world.audit())
    world.policies.pin(world.caller(), "credit", new_quality())
    assert len(world.audit()) == events


@pytest.mark.parametrize("step", ["pin", "unpin"])
def test_another_group_pins_and_unpins_nothing(world, new_quality, step):
    world.live()
    rival = world.caller("rival", "other-team")
    with pytest.raises(Refused):
        world.policies.pin(rival, "credit", new_quality()) if step == "pin" else world.policies.unpin(rival, "credit")
    assert (world.last_audit().action, world.last_audit().outcome) == (f"gates.{step}", "refused")


def test_a_pinned_hold_out_must_be_there(world, new_quality):
    world.live()
    with pytest.raises(NotFound):
        world.policies.pin(world.caller(), "credit", new_quality(holdout_sha256="c" * 64))


# what an approver sees


def gates_of(world):
    return {c.name: (c.before, c.after) for c in world.endpoints.diff(world.caller(), "credit").gates}


def test_a_gate_unpinned_since_stable_came_is_in_the_approvers_diff(world, new_quality):
    world.live(cell="a", tier="prod")
    world.policies.pin(world.caller(), "credit", new_quality())
    first = world.release(cell="b", tier="prod", rollout={"strategy": "replace"})
    work = world.progress.unfinished()[-1]
    world.progress.proved(work.rollout, "", [world.result(release=first.number, pinned=True)])
    _, ticket = world.approvals.open(world.login(), work.rollout)
    world.approvals.decide(ticket, "approve")
    world.progress.loaded(work.rollout, "answers")
    world.policies.unpin(world.caller("colleague"), "credit")
    world.release(cell="c", tier="prod")
    before, after = gates_of(world)["pinned auc >= 0.8"]
    assert before == "every release must pass it"
    assert after.startswith("no more: changed by colleague")


def test_the_diff_shows_both_verdicts_slices_and_the_hold_out(world, new_quality):
    made = world.release(cell="a", quality=new_quality())
    work = world.progress.unfinished()[-1]
    slices = (Slice(column="region", value="north", rows=400, metric=0.91),)
    world.progress.proved(work.rollout, "", [world.result(release=made.number, slices=slices)])
    world.progress.loaded(work.rollout, "answers")
    world.release(cell="b", quality=new_quality("auc >= 0.8", by=("region",)))
    shown = gates_of(world)
    assert shown["auc >= 0.8 (hold-out)"] == ("passed: auc >= 0.8 is as asked", None)
    assert shown["auc >= 0.8 (hold-out), region=north"] == ("0.91 (400 rows)", None)
    assert shown["hold-out"][1] == "aaaaaaaaaaaa…, 1,000 rows, label default, by region"


def test_the_review_page_shows_gates_first_and_every_text_as_data(world, new_quality):
    from themisto_hub.control.review import pages
    from themisto_hub.control.serving.diff import difference

    world.release(tier="prod", quality=new_quality(by=("region",)))
    (work,) = world.progress.unfinished()
    slices = (Slice(column="region", value="<script>x</script>", rows=40, metric=0.8),)
    world.progress.proved(work.rollout, "Proved.", [world.result(slices=slices)])
    login = world.login()
    review, ticket = world.approvals.open(login, work.rollout)
    shown = pages.review(login, review, difference(review.release, review.stable, review.gates), ticket).body.decode()
    assert "<h3>Quality gates</h3>" in shown
    assert shown.index("Quality gates") < shown.index("<h3>Data</h3>")
    assert "passed: auc &gt;= 0.8 is as asked" in shown
    assert "&lt;script&gt;x&lt;/script&gt;" in shown
    assert "<script>" not in shown


def test_rows_that_a_killed_process_left_are_swept(world):
    import os

    from themisto_hub.control.gates.keeper import Gatekeeper

    trials = world.control.settings.folder("control") / "trials"
    for name in ("left", "running"):
        (trials / name).mkdir(parents=True)
        (trials / name / "holdout.parquet").write_bytes(b"rows")
    os.utime(trials / "left", (0, 0))
    Gatekeeper(world.control, world.artifacts, world.holdouts, None, None)
    assert [folder.name for folder in trials.iterdir()] == ["running"]
