"""Gates decided again on labels that were posted later, and what a breach sets off."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from themisto.errors import Invalid, NotFound, Refused
from themisto.serving.gates import RetrainingRequest
from themisto.serving.models import Column, Signature

OUTPUTS = Signature(
    inputs=(Column(name="x", dtype="FP32"),),
    outputs=(Column(name="label", dtype="INT64"), Column(name="probabilities", dtype="FP32", shape=(2,))),
)


def answers(skill=3.0, rows=300, seed=0):
    """Labelled answers of a classifier as the prediction log gives them: `label` is the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, rows)
    score = 1 / (1 + np.exp(-(skill * (2 * truth - 1) + rng.normal(size=rows))))
    return pd.DataFrame(
        {
            "label": truth,
            "outputs.label": (score > 0.5).astype(int),
            "probabilities": list(np.stack([1 - score, score], axis=1)),
            "region": rng.choice(["north", "south"], rows),
        }
    )


@pytest.fixture
def deploy(world, new_quality):
    def live(cell, *gates, **change):
        """A release that passed its gates and has traffic."""
        golden = {"inputs": {"x": [1.0]}, "outputs": {"label": [1], "probabilities": [[0.2, 0.8]]}}
        asked = new_quality(*gates, **change) if gates else None
        made = world.release(cell=cell, signature=OUTPUTS, golden=golden, quality=asked)
        work = world.progress.unfinished()[-1]
        if work.needs_proof:
            world.progress.proved(work.rollout, "", [world.result(g, release=made.number) for g in gates])
        world.progress.loaded(work.rollout, "answers")
        return made

    return live


def test_labels_that_confirm_a_release_change_nothing_and_are_kept(world, deploy):
    deploy("a", "auc >= 0.8")
    (found,) = world.labels.judge("credit", 1, answers())
    assert (found.passed, found.source, found.rows) == (True, "labels", 300)
    assert world.actions()[-1] == "gate.judge"
    shown = {c.name: c.after for c in world.endpoints.diff(world.caller(), "credit").gates}
    assert shown["auc >= 0.8 (labels posted later)"].startswith("passed: auc is")


def test_a_breach_takes_a_running_rollout_back_in_words(world, deploy):
    deploy("a")
    deploy("b", "auc >= 0.8")
    world.labels.judge("credit", 2, answers(skill=0.0))
    now = world.endpoints.get(world.caller(), "credit")
    assert (now.stable, now.candidate, now.weight_pct, now.rollout.state) == (1, None, 0, "rolled_back")
    assert now.rollout.message.startswith("on labels posted since: auc is 0.")
    assert [g.source for g in now.rollout.gates] == ["holdout", "labels"]
    assert world.actions()[-2:] == ["gate.judge", "rollout.breach"]


def test_a_breach_of_stable_is_told_and_moves_no_traffic(world, deploy):
    deploy("a", "auc >= 0.8")
    world.labels.judge("credit", 1, answers(skill=0.0))
    assert world.actions()[-2:] == ["gate.judge", "gate.breached"]
    assert world.endpoints.get(world.caller(), "credit").stable == 1


def test_an_arrow_table_is_judged_as_a_frame_is(world, deploy):
    deploy("a", "auc >= 0.8")
    frame = answers()
    table = pa.Table.from_pandas(frame)
    assert world.labels.judge("credit", 1, table)[0].value == world.labels.judge("credit", 1, frame)[0].value


def test_the_champion_is_compared_by_its_own_labelled_answers(world, deploy):
    deploy("a")
    deploy("b", "auc >= champion - 0.02")
    (found,) = world.labels.judge("credit", 2, answers(skill=0.5), answers(skill=3.0, seed=1))
    assert (found.passed, found.champion_release) == (False, 1)
    assert world.rollout().state == "rolled_back"


def test_without_the_champions_labels_its_gates_are_skipped(world, deploy):
    deploy("a")
    deploy("b", "auc >= champion - 0.02")
    (found,) = world.labels.judge("credit", 2, answers(skill=0.0))
    assert (found.passed, found.says) == (None, "skipped: no labelled answers of the champion")
    assert world.rollout().state == "running"


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (answers(skill=0.0, rows=12), "skipped: 12 labelled answers, 30 are needed"),
        (answers(skill=0.0).assign(label=0), "Every row has the label 0"),
    ],
)
def test_what_cannot_be_told_yet_is_no_breach(world, deploy, frame, says):
    deploy("a", "auc >= 0.8")
    (found,) = world.labels.judge("credit", 1, frame)
    assert (found.passed, says in found.says) == (None, True)
    assert "gate.breached" not in world.actions()


def test_answers_without_their_label_yet_are_left_out(world, deploy):
    deploy("a", "auc >= 0.8")
    frame = answers().astype({"label": float})
    frame.loc[:99, "label"] = np.nan
    assert world.labels.judge("credit", 1, frame)[0].rows == 200
    with pytest.raises(Invalid, match="has its label yet"):
        world.labels.judge("credit", 1, frame.assign(label=np.nan))


@pytest.mark.parametrize("column", ["label", "probabilities"])
def test_a_missing_column_is_named(world, deploy, column):
    deploy("a", "auc >= 0.6")
    with pytest.raises(Invalid, match=f"'{column}'"):
        world.labels.judge("credit", 1, answers().drop(columns=column))


def test_the_truth_may_have_another_name(world, deploy):
    deploy("a", "auc >= 0.8")
    frame = answers().rename(columns={"label": "truth", "outputs.label": "label"})
    assert world.labels.judge("credit", 1, frame, truth="truth")[0].passed is True
    with pytest.raises(Invalid, match="'label' is an output of credit@1 and the truth"):
        world.labels.judge("credit", 1, frame)


def test_a_slice_column_that_no_answer_carries_skips_its_gates_and_no_others(world, deploy):
    deploy("a", "min_slice(auc) >= 0.99", "auc >= 0.8", by=("region",))
    skipped, judged = world.labels.judge("credit", 1, answers().drop(columns="region"))
    assert (skipped.passed, skipped.says) == (None, "skipped: the answers have no column 'region'")
    assert judged.passed is True


def test_slices_come_from_inputs_whose_name_is_taken(world, deploy):
    deploy("a", "min_slice(auc) >= 0.6", by=("region",))
    (found,) = world.labels.judge("credit", 1, answers().rename(columns={"region": "inputs.region"}))
    assert {s.value for s in found.slices} == {"north", "south"}


def test_posted_labels_judge_the_candidate_against_stable_and_then_stable(world, deploy):
    deploy("a", "auc >= 0.8")
    deploy("b", "auc >= champion - 0.02")
    tables = {1: pa.Table.from_pandas(answers()), 2: pa.Table.from_pandas(answers(skill=0.2, seed=1))}
    results = world.labels.posted("credit", lambda _, number: tables[number])
    assert [(r.release, r.passed) for r in results] == [(2, False), (1, True)]
    assert world.rollout().state == "rolled_back"


def test_posted_labels_of_nothing_gated_read_no_log(world, deploy):
    deploy("a")
    assert world.labels.posted("credit", lambda *_: pytest.fail("the log was read")) == ()


def test_no_labelled_answer_yet_says_nothing(world, deploy):
    deploy("a", "auc >= 0.8")
    assert world.labels.posted("credit", lambda *_: pa.Table.from_pandas(answers().head(0))) == ()


def test_a_release_without_gates_has_nothing_to_be_judged_by(world, deploy):
    deploy("a")
    assert world.labels.judge("credit", 1, answers()) == ()


def test_an_unknown_release_is_not_found(world, deploy):
    deploy("a")
    with pytest.raises(NotFound):
        world.labels.judge("credit", 9, answers())


# retraining


@pytest.fixture
def retrained(world, deploy):
    deploy("a", "auc >= 0.8")
    world.schedule()
    world.retrainings.set(world.caller(), "credit", RetrainingRequest(schedule="retrain", cooldown_s=3600))
    return world


def jobs(world):
    return world.schedules.jobs(world.caller(), "retrain", limit=10, after=None)


def breach(world):
    world.labels.judge("credit", 1, answers(skill=0.0))


def test_a_breach_runs_the_schedule_as_its_owner_and_says_why(retrained):
    breach(retrained)
    (job,) = jobs(retrained)
    assert (job.owner, job.state) == ("scientist", "queued")
    assert job.message.startswith("retraining of credit: auc is 0.")
    event = retrained.last_audit()
    assert (event.action, event.actor, event.after["as"]) == ("schedule.run", "themisto", "scientist")


def test_a_second_breach_within_the_cool_down_starts_nothing(retrained):
    breach(retrained)
    breach(retrained)
    assert len(jobs(retrained)) == 1
    assert "cools down for 1 h" in retrained.retrainings.get(retrained.caller(), "credit").last_says


def test_after_the_cool_down_it_may_start_again_but_not_beside_a_job_that_runs(retrained):
    breach(retrained)
    retrained.clock.pass_(hours=2)
    breach(retrained)
    assert len(jobs(retrained)) == 1
    assert "is running" in retrained.retrainings.get(retrained.caller(), "credit").last_says


def test_a_paused_schedule_is_not_started(retrained):
    retrained.schedules.pause(retrained.caller(), "retrain")
    breach(retrained)
    assert jobs(retrained) == []
    assert "is paused" in retrained.retrainings.get(retrained.caller(), "credit").last_says


def test_a_schedule_that_is_gone_starts_nothing_and_breaks_nothing(retrained):
    retrained.schedules.remove(retrained.caller(), "retrain")
    breach(retrained)
    assert "there is no schedule 'retrain'" in retrained.retrainings.get(retrained.caller(), "credit").last_says


def test_nothing_starts_while_a_release_is_on_its_way(retrained):
    golden = {"inputs": {"x": [1.0]}, "outputs": {"label": [1], "probabilities": [[0.2, 0.8]]}}
    retrained.release(cell="b", signature=OUTPUTS, golden=golden)
    breach(retrained)
    assert jobs(retrained) == []


def test_retraining_moves_no_traffic_and_approves_nothing(retrained):
    before = retrained.endpoints.get(retrained.caller(), "credit")
    breach(retrained)
    after = retrained.endpoints.get(retrained.caller(), "credit")
    assert (after.stable, after.candidate, after.rollout.approvals) == (before.stable, before.candidate, ())


def test_drift_starts_only_what_is_named_for_it(retrained):
    retrained.retrainings.drifted(retrained.caller(), "credit", "PSI of x is 0.4")
    assert jobs(retrained) == []
    request = RetrainingRequest(schedule="retrain", on=("gate", "drift"), cooldown_s=3600)
    retrained.retrainings.set(retrained.caller(), "credit", request)
    retrained.retrainings.drifted(retrained.caller(), "credit", "PSI of x is 0.4")
    assert jobs(retrained)[0].message == "retraining of credit: drift: PSI of x is 0.4"


def test_switched_off_nothing_is_started(retrained):
    retrained.retrainings.set(retrained.caller(), "credit", None)
    breach(retrained)
    assert jobs(retrained) == []


def test_only_owners_name_a_schedule_and_only_their_groups(world, deploy):
    deploy("a")
    world.schedule()
    rival = world.caller("rival", "other-team")
    with pytest.raises(Refused):
        world.retrainings.set(rival, "credit", RetrainingRequest(schedule="retrain"))
    assert (world.last_audit().action, world.last_audit().outcome) == ("retraining.set", "refused")
    with pytest.raises(NotFound, match="no schedule 'nightly'"):
        world.retrainings.set(world.caller(), "credit", RetrainingRequest(schedule="nightly"))


def test_a_miss_that_may_be_chance_is_no_breach(world, deploy):
    frame = answers(skill=1.0, rows=60, seed=3)
    deploy("a", "auc >= 0.95")
    (found,) = world.labels.judge("credit", 1, frame)
    assert found.value < 0.95
    assert (found.passed, found.says.endswith("on 60 labelled answers that may be chance")) == (None, True)
    assert "gate.breached" not in world.actions()
