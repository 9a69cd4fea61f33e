"""Metrics held to scikit-learn's own numbers, and verdicts: who passes, who does not, and what is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from themisto.errors import Invalid
from themisto.serving.gates import MIN_SLICE
from themisto.serving.judging import MAX_SLICES, judge, may_be_chance
from themisto.serving.metrics import Answered


def binary(rows=400, seed=0, *, skill=1.0, by=None):
    """Truth, and a classifier's outputs as an export gives them."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, rows)
    score = 1 / (1 + np.exp(-(skill * (2 * truth - 1) + rng.normal(size=rows))))
    outputs = {
        "label": (score > 0.5).astype(np.int64).reshape(-1, 1),
        "probabilities": np.stack([1 - score, score], axis=1).astype(np.float32),
    }
    return Answered(truth, outputs, by or {})


def regression(rows=300, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(10, 3, rows)
    return Answered(truth, {"prediction": (truth + rng.normal(size=rows)).reshape(-1, 1)})


def sklearn_binary(name, truth, outputs):
    label, score = outputs["label"][:, 0], outputs["probabilities"][:, 1].astype(np.float64)

    def ks():
        false, true, _ = sk.roc_curve(truth, score)
        return np.max(true - false)

    return {
        "auc": lambda: sk.roc_auc_score(truth, score),
        "average_precision": lambda: sk.average_precision_score(truth, score),
        "ks": ks,
        "log_loss": lambda: sk.log_loss(truth, score),
        "brier": lambda: sk.brier_score_loss(truth, score),
        "accuracy": lambda: sk.accuracy_score(truth, label),
        "precision": lambda: sk.precision_score(truth, label),
        "recall": lambda: sk.recall_score(truth, label),
        "f1": lambda: sk.f1_score(truth, label),
    }[name]()


@pytest.mark.parametrize(
    "name", ["auc", "average_precision", "ks", "log_loss", "brier", "accuracy", "precision", "recall", "f1"]
)
@pytest.mark.parametrize("seed", range(3))
def test_binary_metrics_are_scikit_learns(name, seed):
    answers = binary(seed=seed)
    assert answers.metric(name) == pytest.approx(sklearn_binary(name, answers.truth, answers.outputs), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("rmse", sk.root_mean_squared_error),
        ("mae", sk.mean_absolute_error),
        ("mape", sk.mean_absolute_percentage_error),
        ("r2", sk.r2_score),
    ],
)
def test_regression_metrics_are_scikit_learns(name, theirs):
    answers = regression()
    assert answers.metric(name) == pytest.approx(theirs(answers.truth, answers.outputs["prediction"][:, 0]))


@pytest.mark.parametrize("classes", [np.array([0, 1, 2]), np.array(["high", "low", "mid"], dtype=object)])
def test_metrics_of_three_classes_are_scikit_learns(classes):
    rng = np.random.default_rng(1)
    actual = rng.integers(0, 3, 300)
    raw = rng.random((300, 3)) + np.eye(3)[actual]
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    truth, chosen = classes[actual], classes[probabilities.argmax(axis=1)]
    answers = Answered(truth, {"label": chosen.reshape(-1, 1), "probabilities": probabilities})
    truth_text, chosen_text = truth.astype(str), chosen.astype(str)
    assert answers.metric("auc") == pytest.approx(sk.roc_auc_score(truth_text, probabilities, multi_class="ovr"))
    assert answers.metric("f1") == pytest.approx(sk.f1_score(truth_text, chosen_text, average="macro"))
    assert answers.metric("log_loss") == pytest.approx(sk.log_loss(truth_text, probabilities))
    with pytest.raises(Invalid, match="two classes"):
        answers.metric("brier")


@given(st.integers(0, 10_000), st.integers(40, 200))
@settings(max_examples=30, deadline=None)
def test_a_slice_has_the_metric_of_its_rows_alone(seed, rows):
    rng = np.random.default_rng(seed)
    whole = binary(rows, seed, by={"region": rng.choice(["north", "south"], rows)})
    for one in judge(["accuracy >= 0"], whole, None)[0].slices:
        mask = whole.by["region"] == one.value
        assert one.rows == mask.sum()
        if one.metric is not None:
            own = {name: array[mask] for name, array in whole.outputs.items()}
            assert one.metric == pytest.approx(sklearn_binary("accuracy", whole.truth[mask], own))
        else:
            assert one.rows < MIN_SLICE


def test_a_text_label_and_a_boolean_one_are_classes():
    answers = binary()
    names = np.array(["bad", "good"], dtype=object)
    texts = Answered(names[answers.truth], {**answers.outputs, "label": names[answers.outputs["label"]]})
    flags = Answered(answers.truth.astype(bool), answers.outputs)
    assert texts.metric("auc") == flags.metric("auc") == answers.metric("auc")
    assert texts.metric("recall") == flags.metric("recall") == answers.metric("recall")


def test_one_score_ranks_two_classes():
    answers = binary()
    booster = Answered(answers.truth, {"prediction": answers.outputs["probabilities"][:, 1]})
    assert booster.metric("auc") == pytest.approx(answers.metric("auc"))


@pytest.mark.parametrize(
    ("answers", "metric", "says"),
    [
        (Answered(np.ones(50, int), binary(50).outputs), "auc", "Every row has the label 1"),
        (Answered(np.full(50, 1), {"prediction": np.ones(50)}), "auc", "one class"),
        (Answered(np.linspace(0, 1, 50), {"prediction": np.ones(50)}), "auc", "no class"),
        (Answered(np.arange(2000), {"prediction": np.ones(2000)}), "auc", "2,000 classes"),
        (regression(), "accuracy", "accuracy needs the output 'label'; the model answers prediction"),
        (regression(), "log_loss", "log_loss needs the output 'probabilities'"),
        (binary(), "rmse", "rmse needs the output 'prediction'"),
        (Answered(np.array(["a", "b"] * 25, dtype=object), binary(50).outputs), "accuracy", "holds text"),
        (Answered(np.zeros(50), {"prediction": np.ones(50)}), "mape", "50 rows have the label 0"),
        (Answered(np.zeros(50), {"prediction": np.ones(50)}), "r2", "the same in every row"),
        (Answered(np.ones(50), {"prediction": np.full(50, np.nan)}), "rmse", "no finite number on 50 of 50"),
        (Answered(np.zeros(0), {"prediction": np.zeros((0, 1))}), "rmse", "no rows"),
        (Answered(np.arange(90) % 2, {"probabilities": np.ones((90, 3)) / 3}), "auc", "probabilities of 3 classes"),
    ],
)
def test_what_has_no_metric_says_why(answers, metric, says):
    with pytest.raises(Invalid, match=says):
        answers.metric(metric)


# verdicts


def test_worse_than_the_champion_does_not_pass_and_better_does():
    good, bad = binary(seed=1, skill=2.0), binary(seed=1, skill=0.3)
    gate = ["auc >= champion - 0.005"]
    (worse,), (better,) = judge(gate, bad, good), judge(gate, good, bad)
    assert (worse.passed, better.passed) == (False, True)
    assert worse.champion == good.metric("auc")
    assert f"not >= {worse.limit:.6g} (champion {worse.champion:.6g})" in worse.says


def test_the_same_model_passes_against_itself():
    answers = binary()
    assert all(v.passed for v in judge(["auc >= champion", "log_loss <= champion"], answers, answers))


def test_without_a_champion_its_gates_are_skipped_and_others_judged():
    skipped, judged = judge(["auc >= champion", "auc >= 0.99"], binary(), None)
    assert (skipped.passed, skipped.says) == (None, "skipped: the first release has no champion")
    assert judged.passed is False


def sliced():
    """Good in the north, no better than chance in the south; twelve rows in the west."""
    north, south, west = binary(200, 1, skill=3.0), binary(200, 2, skill=0.0), binary(12, 3, skill=3.0)
    parts = [north, south, west]
    by = {"region": np.repeat(["north", "south", "west"], [200, 200, 12])}
    outputs = {name: np.concatenate([p.outputs[name] for p in parts]) for name in north.outputs}
    return Answered(np.concatenate([p.truth for p in parts]), outputs, by)


def test_the_worst_slice_decides_and_is_named():
    (verdict,) = judge(["min_slice(auc) >= 0.7"], sliced(), None)
    assert verdict.passed is False
    assert "at region=south (200 rows)" in verdict.says
    assert [s.value for s in verdict.slices] == ["south", "north", "west"]


def test_a_small_slice_is_named_and_not_judged():
    (verdict,) = judge(["min_slice(auc) >= 0.4"], sliced(), None)
    west = verdict.slices[-1]
    assert (west.value, west.rows, west.metric) == ("west", 12, None)
    assert "not judged" in west.note


def test_the_gap_is_between_two_slices_of_one_column():
    (verdict,) = judge(["gap(accuracy) <= 0.1"], sliced(), None)
    assert verdict.passed is False
    assert "between region=south" in verdict.says
    assert "and region=north" in verdict.says


def test_a_gate_on_all_rows_that_fails_names_the_worst_slice():
    (verdict,) = judge(["auc >= 0.99"], sliced(), None)
    assert "worst at region=south" in verdict.says


def test_the_highest_slice_is_the_worst_of_a_loss():
    (verdict,) = judge(["max_slice(log_loss) <= 0.4"], sliced(), None)
    assert verdict.passed is False
    assert "at region=south" in verdict.says


def test_a_gate_about_slices_without_slices_does_not_pass():
    (verdict,) = judge(["min_slice(auc) >= 0.1"], binary(), None)
    assert (verdict.passed, "no column to slice by" in verdict.says) == (False, True)


def test_answers_that_are_no_number_do_not_pass():
    broken = binary()
    broken.outputs["probabilities"] = np.full((400, 2), np.nan)
    (verdict,) = judge(["auc >= 0"], broken, None)
    assert (verdict.passed, "no finite number" in verdict.says) == (False, True)


def test_a_champion_that_cannot_be_judged_lets_nobody_pass():
    broken = binary()
    broken.outputs["probabilities"] = np.full((400, 2), np.nan)
    (verdict,) = judge(["auc >= champion"], binary(), broken)
    assert (verdict.passed, "of the champion" in verdict.says) == (False, True)


def test_a_column_that_names_people_is_refused():
    rows = MAX_SLICES + 1
    answers = binary(rows, by={"customer": np.arange(rows).astype(str)})
    with pytest.raises(Invalid, match="'customer' has 201 values"):
        judge(["auc >= 0"], answers, None)


# labels: is it chance?


def test_a_clear_miss_is_not_chance_and_a_narrow_one_on_few_rows_is():
    assert not may_be_chance("auc >= 0.8", binary(300, skill=0.0), None)
    narrow = binary(60, seed=3, skill=1.0)
    limit = narrow.metric("auc") + 0.005
    assert may_be_chance(f"auc >= {limit}", narrow, None)


def test_a_good_model_is_seldom_called_bad_however_often_it_is_looked_at():
    """40 streams, each looked at after every 50 labels: the model is 0.02 better than the gate asks."""
    alarms = 0
    for seed in range(40):
        stream = binary(400, seed=seed, skill=1.0)
        looks = [stream.take(np.arange(n)) for n in range(50, 401, 50)]
        alarms += any(look.metric("auc") < 0.90 and not may_be_chance("auc >= 0.90", look, None) for look in looks)
    assert alarms <= 4


def test_the_champions_chance_counts_too():
    gate = "auc >= champion"
    equals = [(binary(80, seed=2 * seed), binary(80, seed=2 * seed + 1)) for seed in range(20)]
    assert sum(not may_be_chance(gate, *sorted(pair, key=lambda one: one.metric("auc"))) for pair in equals) <= 2
    assert not may_be_chance(gate, binary(400, skill=0.0), binary(400, skill=3.0))


def test_rows_drawn_again_keep_the_classes():
    answers = binary()
    assert answers.classes == [0, 1]
    assert answers.take(np.flatnonzero(answers.truth == 1)).classes == [0, 1]
