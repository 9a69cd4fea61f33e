"""Gates and hold-outs as people name them: from a cell to what is stored, and each mistake before anything is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from IPython.core.error import UsageError

from themisto.errors import Conflict, Failed, Invalid, NotFound
from themisto.serving.holdout import MAX_ROWS, to_parquet
from themisto.serving.magic import DeployMagics

GATE = "auc >= 0.6"


@pytest.fixture
def held(frame, numbers, late):
    """Rows with their label and the carrier to slice by; the booster was fitted on others' order, which is enough."""
    return numbers.assign(carrier=frame.carrier, late=late).sample(800, random_state=1).reset_index(drop=True)


@pytest.fixture
def blind(numbers, late):
    import lightgbm as lgb

    return lgb.LGBMClassifier(n_estimators=5, verbose=-1).fit(numbers, late.sample(frac=1.0, random_state=0))


@pytest.fixture
def deploy(serving, booster, numbers):
    def call(holdout=None, *gates, model=booster, label="late", **options):
        return serving.deploy(
            "scoring",
            model,
            numbers,
            gates=gates or (GATE,),
            holdout=holdout,
            label=label,
            strategy="replace",
            **options,
        )[0]

    return call


def nothing_is_stored(plane):
    return not plane.releases and not plane.holdouts and not plane.artifacts


def test_a_release_records_its_gates_and_the_rows_by_digest(deploy, plane, held):
    outcome = deploy(held, by="carrier")
    quality = outcome.release.quality
    assert (quality.gates, quality.rows, quality.label, quality.by) == ((GATE,), 800, "late", ("carrier",))
    assert quality.holdout_sha256 in plane.holdouts
    assert outcome.rollout.gates[0].passed is True
    assert {s.value for s in outcome.rollout.gates[0].slices} == {"AA", "DL", "UA"}


def test_only_the_columns_that_are_needed_are_stored(deploy, plane, held):
    deploy(held.assign(name="Ann"))
    (stored,) = plane.holdouts.values()
    assert set(stored.columns) == {"hour", "dist", "temp", "late"}


def test_the_same_cell_again_is_the_same_release_and_uploads_nothing(deploy, plane, held):
    first, second = deploy(held), deploy(held)
    assert first.release == second.release
    assert len(plane.holdouts) == 1


def test_another_gate_is_another_release(deploy, held):
    assert deploy(held).release.number != deploy(held, "auc >= 0.61").release.number


def test_a_worse_model_fails_in_words_and_stable_stays(deploy, plane, held, blind):
    deploy(held)
    with pytest.raises(Failed, match=r"gate not passed: auc is 0\.\d+.*not >= .*champion"):
        deploy("same", "auc >= champion - 0.005", model=blind)
    assert plane.endpoints["scoring"].stable == 1


def test_the_first_release_skips_the_gate_against_the_champion(deploy, held):
    outcome = deploy(held, "auc >= champion", GATE)
    assert [g.passed for g in outcome.rollout.gates] == [None, True]
    assert "first release" in outcome.rollout.gates[0].says


def test_a_gate_alone_takes_the_hold_out_of_before_with_its_label(deploy, held, booster, numbers, serving):
    before = deploy(held, by="carrier").release.quality
    after = serving.deploy("scoring", booster, numbers, gates="f1 >= 0.1", strategy="replace")[0].release.quality
    assert (after.holdout_sha256, after.label, after.by) == (before.holdout_sha256, "late", ("carrier",))


def test_a_stored_hold_out_is_found_by_digest_and_name(deploy, plane, held, tmp_path):
    path = tmp_path / "valid.parquet"
    held.to_parquet(path)
    digest = deploy(path).release.quality.holdout_sha256
    assert deploy(digest[:10], "f1 >= 0.1").release.quality.holdout_sha256 == digest
    stored = plane.holdouts[digest]
    plane.holdouts[digest] = stored.model_copy(update={"name": "spring"})
    assert deploy("spring", "f1 >= 0.2").release.quality.holdout_sha256 == digest


@pytest.mark.parametrize("name", ["valid.parquet", "valid.csv"])
def test_a_file_is_read_here_and_uploaded(deploy, plane, held, tmp_path, name):
    path = tmp_path / name
    held.to_csv(path, index=False) if name.endswith("csv") else held.to_parquet(path)
    assert deploy(f"file://{path}").rollout.gates[0].passed is True
    assert [h.name for h in plane.holdouts.values()] == [name]


def test_a_dry_run_checks_the_gates_and_stores_nothing(deploy, plane, held):
    assert deploy(held, dry_run=True).request.quality.gates == (GATE,)
    assert nothing_is_stored(plane)


def test_the_bytes_of_the_same_rows_are_the_same(held):
    columns = list(held.columns)
    assert to_parquet(held, columns) == to_parquet(held.set_index(held.index + 5), columns)


MISTAKES = {
    "no label column": (lambda f: f, {"label": "lat"}, "'lat' \\(there is 'late'\\) missing"),
    "label not named": (lambda f: f, {"label": None}, "Which column of the hold-out is the label"),
    "empty": (lambda f: f.head(0), {}, "no rows"),
    "no frame": (lambda f: f.to_numpy(), {}, "is a ndarray, not a DataFrame"),
    "one class": (lambda f: f.assign(late=0), {}, "Every row of the hold-out has the label 0: 'auc >= 0.6'"),
    "missing labels": (lambda f: f.assign(late=f.late.where(f.late == 1)), {}, "is missing in \\d+ of 800 rows"),
    "a label of numbers": (lambda f: f.assign(late=f.dist), {}, "cannot be judged: The label is no class"),
    "other columns": (lambda f: f.rename(columns={"hour": "hours"}), {}, "'hour' \\(there is 'hours'\\) missing"),
    "text for a number": (lambda f: f.assign(dist="far"), {}, "'dist' is .*the model takes FP64"),
    "the label is an input": (lambda f: f.assign(hour=f.late), {"label": "hour"}, "also what the model takes"),
    "no such slice": (lambda f: f, {"by": ["carier"]}, "'carier' \\(there is 'carrier'\\)"),
    "a slice a row": (lambda f: f.assign(who=range(len(f))), {"by": ["who"]}, "'who' has 800 values"),
    "a column twice": (lambda f: pd.concat([f, f[["late"]]], axis=1), {}, "'late' is there twice"),
    "huge": (lambda f: f.iloc[np.zeros(MAX_ROWS + 1, int)], {}, "too large: 1,000,001 rows"),
    "unknown digest": (lambda _: "0123456789ab", {}, "no DataFrame, file or stored hold-out"),
    "no such file": (lambda _: "nothing.parquet", {}, "no file 'nothing.parquet'"),
    "another kind of file": (lambda _: "rows.xlsx", {}, "'rows.xlsx' is no hold-out that can be read"),
    "elsewhere": (lambda _: "s3://bucket/rows.parquet", {}, "s3:// is not read from here"),
    "the same of nothing": (lambda _: "same", {}, "no hold-out yet"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_hold_out_that_does_not_fit_is_refused_before_anything_is_stored(deploy, plane, held, case):
    change, options, says = MISTAKES[case]
    with pytest.raises((Invalid, NotFound), match=says) as caught:
        deploy(change(held), **options)
    assert caught.value.remedy
    assert nothing_is_stored(plane)


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ("aucc >= 0.6", "Did you mean auc?"),
        ("rmse <= 3", "rmse needs the output 'prediction'; the model answers label, probabilities"),
        ("min_slice(auc) >= 0.6", "no column is named to slice by"),
    ],
)
def test_a_gate_that_does_not_fit_is_refused_before_anything_is_stored(deploy, plane, held, gate, says):
    with pytest.raises(Invalid) as caught:
        deploy(held, gate)
    assert says in str(caught.value)
    assert nothing_is_stored(plane)


def test_probabilities_of_a_regression_are_refused(serving, numbers, delay, held, plane):
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(numbers, delay)
    with pytest.raises(Invalid, match="log_loss needs the output 'probabilities'; the model answers prediction"):
        serving.deploy("scoring", model, numbers, gates="log_loss <= 1", holdout=held, label="late")
    assert nothing_is_stored(plane)


def test_a_hold_out_without_a_gate_decides_nothing(serving, booster, numbers, held):
    with pytest.raises(Invalid, match="decides nothing"):
        serving.deploy("scoring", booster, numbers, holdout=held, label="late")


def test_the_training_data_is_no_hold_out(serving, tracking, numbers, late, plane):
    import lightgbm as lgb

    train = numbers.assign(late=late)
    with tracking.track("scoring", data={"train": train}, autolog=False) as run:
        model = lgb.LGBMClassifier(n_estimators=5, verbose=-1).fit(numbers, late)
        run.result(model)
    with pytest.raises(Invalid, match="The hold-out is the training data"):
        serving.deploy("scoring", model, numbers, gates=GATE, holdout=train, label="late")
    assert nothing_is_stored(plane)


def test_rows_without_the_champions_columns_are_refused(serving, deploy, held, numbers, late):
    import lightgbm as lgb

    deploy(held)
    narrow = lgb.LGBMClassifier(n_estimators=5, verbose=-1).fit(numbers[["hour", "dist"]], late)
    with pytest.raises(Invalid, match="scoring@1, the champion, takes 'temp'"):
        serving.deploy(
            "scoring",
            narrow,
            numbers[["hour", "dist"]],
            gates="auc >= champion",
            holdout=held.drop(columns="temp"),
            label="late",
        )


# pinned and retrained


def test_pinned_gates_are_those_of_the_newest_gated_release(serving, deploy, held):
    deploy(held)
    assert serving.gates.pin("scoring").pinned.gates == (GATE,)
    assert serving.gates.pin("scoring", "auc>=.7").pinned.gates == ("auc >= 0.7",)
    assert serving.gates.unpin("scoring").pinned is None


def test_nothing_can_be_pinned_that_was_never_judged(serving, booster, numbers):
    serving.deploy("scoring", booster, numbers)
    with pytest.raises(Conflict, match="No release of 'scoring' was judged"):
        serving.gates.pin("scoring")


def test_retraining_is_named_and_switched_off(serving, booster, numbers, plane):
    serving.deploy("scoring", booster, numbers)
    assert serving.gates.retrain("scoring", "retrain-credit", on=["gate", "drift"], cooldown_h=6).cooldown_s == 21_600
    serving.gates.drifted("scoring", "PSI of dist is 0.3")
    assert plane.drift == ["PSI of dist is 0.3"]
    serving.gates.retrain_off("scoring")
    assert serving.gates.retraining("scoring") is None


@pytest.mark.parametrize(("schedule", "hours"), [("Not A Name", 24), ("retrain-credit", 0), ("retrain-credit", 1e6)])
def test_a_retraining_that_cannot_be_is_refused(serving, schedule, hours):
    with pytest.raises(Invalid, match="is no retraining"):
        serving.gates.retrain("scoring", schedule, cooldown_h=hours)


# the line


class Bench:
    def __init__(self, serving, control):
        self.serving = serving
        self.control = control


@pytest.fixture
def line(shell, serving, booster, blind, numbers, held):
    shell.user_ns.update(model=booster, blind=blind, X_valid=numbers, held=held)
    return DeployMagics(shell, Bench(serving, serving._control))


def test_gates_from_a_cell_and_what_is_shown(line, capsys):
    gates = "--gate 'auc >= 0.6' --gate 'gap(recall) <= 0.5' --holdout held --label late --by carrier"
    shown = line.deploy(f"scoring --sample X_valid {gates}", "model")
    assert "gate ✓ auc >= 0.6" in repr(shown)
    assert "gates" in capsys.readouterr().out
    assert "gate ✓ gap(recall) <= 0.5" in repr(line.deploy("status scoring"))
    assert "carrier=AA" in repr(line.deploy("gates scoring"))


def test_pin_and_unpin_from_a_line(line):
    line.deploy("scoring --sample X_valid --gate 'auc >= 0.6' --holdout held --label late", "model")
    assert "every release must pass" in repr(line.deploy("gates scoring --pin"))
    assert "every release must pass" in repr(line.deploy("status scoring"))
    assert "every release must pass" not in repr(line.deploy("gates scoring --unpin"))


def test_retraining_from_a_line(line):
    line.deploy("scoring --sample X_valid", "model")
    shown = repr(line.deploy("retrain scoring --schedule retrain-credit --on gate --on drift --cooldown 6"))
    assert "retrain-credit, on gate and drift, at most every 6 h" in shown
    assert "retrained by" not in repr(line.deploy("retrain scoring --off"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("--gate 'aucc >= 1' --holdout held --label late", "Did you mean auc"),
        ("--holdout held --label late", "decides nothing"),
        ("--gate 'auc >= 0.6' --holdout hled --label late", "no DataFrame, file or stored hold-out 'hled'"),
        ("--gate 'auc >= 0.6' --holdout held", "Which column of the hold-out is the label"),
        ("--gate 'auc >= 0.99' --holdout held --label late", "gate not passed: auc is"),
    ],
)
def test_mistakes_on_the_line_are_one_usage_error(line, text, says):
    with pytest.raises(UsageError, match=says):
        line.deploy(f"scoring --sample X_valid {text}", "model")


def test_a_gate_is_checked_before_the_cell_is_run(line):
    with pytest.raises(UsageError):
        line.deploy("scoring --sample X_valid --gate 'aucc >= 1' --holdout held", "ran_gate = True\nmodel")
    assert "ran_gate" not in line.ns


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gates scornig", "Did you mean scoring"),
        ("gates scoring --pin --unpin", "not allowed with"),
        ("gates scoring --pin --gate 'aucc >= 1'", "Did you mean auc"),
        ("retrain scoring --schedule nightly", "no schedule 'nightly'"),
        ("retrain scoring --schedule retrain-credit --off", "not allowed with"),
        ("retrain scoring --schedule retrain-credit --on labels", "knows no"),
    ],
)
def test_mistakes_with_pins_and_retraining_are_one_usage_error(line, text, says):
    line.deploy("scoring --sample X_valid --gate 'auc >= 0.6' --holdout held --label late", "model")
    with pytest.raises(UsageError, match=says):
        line.deploy(text)
