"""Gates with real models, the real clean process and real Tritons: who gets traffic, and who never does."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import sys
import zipfile
from datetime import UTC, datetime

import httpx
import numpy as np
import pandas as pd
import pytest
from tests.integration.control_serving.conftest import Plane, environment, listening, process, wait_until
from tests.integration.control_serving.test_code import running_pool
from tests.integration.control_serving.test_reconciler import weights

from themisto.errors import Failed, Invalid
from themisto.serving.candidate import Candidate
from themisto.serving.clean import run_function
from themisto.serving.exporter import exporter_for
from themisto.serving.frame import from_json, to_json
from themisto.serving.gates import Quality
from themisto.serving.holdout import to_parquet
from themisto.serving.models import Artifact, Column, Golden, Release, ReleaseRequest, Signature
from themisto.serving.parity import Tolerance
from themisto_hub.control.gates.keeper import Gatekeeper
from themisto_hub.control.gates.records import results_of
from themisto_hub.control.serving.artifacts import ArtifactStore
from themisto_hub.control.serving.prover import Prover
from themisto_hub.gateway.predictions import write_parquet

__all__ = ["running_pool"]

pytestmark = pytest.mark.timeout(150)

FUNCTION = """
def predict(frame):
    return frame["income"] * (1 - frame["south"]) + frame["age"] * frame["south"]
"""
CLASSIFIER = """
import numpy as np
def predict(frame):
    score = frame["income"] * (1 - frame["south"]) + frame["age"] * frame["south"]
    yes = 1 / (1 + np.exp(-score.to_numpy()))
    return {"label": (yes > 0.5).astype("int64"), "probabilities": np.stack([1 - yes, yes], 1).astype("float32")}
"""
BETTER = "auc >= champion - 0.005"


@pytest.fixture(scope="module")
def rows():
    """Income tells in the north, age in the south; `south` says where."""
    rng = np.random.default_rng(0)
    count = 1500
    south = rng.integers(0, 2, count)
    income, age = rng.normal(size=count), rng.normal(size=count)
    truth = np.where(south == 1, age, income) + 0.3 * rng.normal(size=count) > 0
    return pd.DataFrame(
        {
            "income": income,
            "age": age,
            "south": south.astype("int64"),
            "region": np.where(south == 1, "south", "north"),
            "default": truth.astype("int64"),
        }
    )


@pytest.fixture(scope="module")
def models(rows):
    """`good` knows where; `north` knows income alone; `blind` was fitted on shuffled labels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    columns = ["income", "age", "south"]
    shuffled = rows.default.sample(frac=1.0, random_state=0).to_numpy()
    return {
        "good": DecisionTreeClassifier(max_depth=8, random_state=0).fit(rows[columns], rows.default),
        "north": LogisticRegression().fit(rows[columns].assign(age=0.0, south=0), rows.default),
        "blind": LogisticRegression().fit(rows[columns], shuffled),
    }


@pytest.fixture
def hold_out(rows):
    """Store rows over the API; the quality of a release that asks for gates on them."""

    def store(plane, *gates, frame=rows, by=(), label="default") -> Quality:
        data, digest = to_parquet(frame, list(frame.columns))
        put = plane.call("PUT", f"/holdouts/data-science/{digest}", content=data)
        assert put.status_code in (200, 201), put.text
        body = {"sha256": digest, "group": "data-science", "name": "valid", "rows": len(frame)}
        made = plane.call("POST", "/holdouts", json=body | {"columns": list(frame.columns)})
        assert made.status_code == 201, made.text
        return Quality(gates=gates or (BETTER,), holdout_sha256=digest, rows=len(frame), label=label, by=by)

    return store


@pytest.fixture
def deploy(rows, models):
    def post(plane, name, **change) -> httpx.Response:
        candidate = Candidate.exported(exporter_for(models[name]), models[name], rows.drop(columns="default"))
        _, golden = candidate.prove(Tolerance())
        plane.upload(candidate.export.data)
        content = {
            "group": "data-science",
            "artifact": candidate.export.artifact,
            "signature": candidate.export.signature,
            "golden": golden,
            "cell": name,
        }
        body = ReleaseRequest.model_validate(content | change).model_dump(mode="json")
        return plane.call("POST", "/endpoints/credit/releases", json=body)

    return post


@pytest.fixture
def deploy_code():
    """A function that knows where, as `good` does."""

    def post(plane, *, source=FUNCTION, **change) -> httpx.Response:
        takes = [("income", "FP64"), ("age", "FP64"), ("south", "INT64")]
        signature = Signature(
            inputs=tuple(Column(name=name, dtype=dtype) for name, dtype in takes),
            outputs=(Column(name="prediction", dtype="FP64"),),
        )
        signature = change.get("signature", signature)
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("function.py", source)
            archive.writestr("signature.json", signature.model_dump_json())
        content = {
            "group": "data-science",
            "artifact": Artifact(kind="python", sha256=plane.upload(data.getvalue()), size_bytes=len(data.getvalue())),
            "signature": signature,
            "golden": Golden(inputs={"income": [1.0], "age": [2.0], "south": [1]}, outputs={"prediction": [2.0]}),
        }
        body = ReleaseRequest.model_validate(content | change).model_dump(mode="json")
        return plane.call("POST", "/endpoints/credit/releases", json=body)

    return post


class InAProcess:
    """Where code answers, without a model server: a clean process a batch."""

    def __init__(self, artifacts: ArtifactStore, *, last: int | None = None) -> None:
        self._artifacts = artifacts
        self._last = last
        self.batches = 0

    def answer_apart(self, release, batches):
        columns = release.signature
        for batch in list(batches)[: self._last]:
            self.batches += 1
            data = self._artifacts.read(release.artifact.sha256)
            yield to_json(run_function(data, columns, from_json(batch, columns.inputs)))


def gates_of(endpoint):
    return {one["gate"]: one for one in endpoint["rollout"]["gates"]}


# prod: before a person is asked; no Triton is needed for ONNX


def test_a_worse_model_never_reaches_the_approver(reconciled, deploy, hold_out):
    quality = hold_out(reconciled, "auc >= 0.9")
    deploy(reconciled, "blind", tier="prod", quality=quality)
    failed = reconciled.wait_for("credit", "failed", "waiting_approval", timeout_s=60)
    assert (failed["rollout"]["state"], failed["rollout"]["stage"]) == ("failed", "gate")
    assert failed["rollout"]["message"].startswith("gate not passed: auc is 0.")
    assert failed["rollout"]["review_url"] is None
    assert [row.action for row in reconciled.audit(object=f"rollout/{failed['rollout']['id']}")] == [
        "rollout.open",
        "gate.judge",
        "rollout.failed",
    ]


def test_a_good_model_waits_with_its_verdicts_and_the_approver_sees_them(reconciled, deploy, hold_out):
    quality = hold_out(reconciled, "auc >= 0.9", "gap(accuracy) <= 0.1", BETTER, by=("region",))
    deploy(reconciled, "good", tier="prod", quality=quality)
    waiting = reconciled.wait_for("credit", "failed", "waiting_approval", timeout_s=60)
    assert waiting["rollout"]["state"] == "waiting_approval", waiting["rollout"]["message"]
    found = gates_of(waiting)
    assert found["auc >= 0.9"]["passed"] is True
    assert {s["value"] for s in found["gap(accuracy) <= 0.1"]["slices"]} == {"north", "south"}
    assert found[BETTER]["says"] == "skipped: the first release has no champion"
    diff = {c["name"]: c["after"] for c in reconciled.call("GET", "/endpoints/credit/diff").json()["gates"]}
    assert diff["auc >= 0.9 (hold-out)"].startswith("passed: auc is 0.9")


def test_slices_decide_where_the_whole_would_pass(reconciled, deploy, hold_out):
    quality = hold_out(reconciled, "auc >= 0.65", "min_slice(auc) >= 0.65", by=("region",))
    deploy(reconciled, "north", tier="prod", quality=quality)
    failed = reconciled.wait_for("credit", "failed", "waiting_approval", timeout_s=60)
    assert failed["rollout"]["state"] == "failed"
    assert "at region=south" in failed["rollout"]["message"]
    assert gates_of(failed)["auc >= 0.65"]["passed"] is True


@pytest.mark.parametrize(
    ("change", "gate", "says"),
    [
        ({"default": 1}, "auc >= 0.5", "Every row of the hold-out has the label 1"),
        ({"income": "much"}, "auc >= 0.5", "'income' is"),
        ({}, "rmse <= 1", "rmse needs the output 'prediction'"),
    ],
)
def test_a_hold_out_that_cannot_judge_ends_it_in_words(reconciled, deploy, hold_out, rows, change, gate, says):
    """As a client would send it that checks nothing."""
    quality = hold_out(reconciled, gate, frame=rows.assign(**change))
    deploy(reconciled, "good", tier="prod", quality=quality)
    failed = reconciled.wait_for("credit", "failed", "waiting_approval", timeout_s=60)
    assert says in failed["rollout"]["message"]
    assert failed["rollout"]["stage"] == "gate"


def test_bytes_that_are_no_parquet_end_it_in_words(reconciled, deploy):
    data = b"no parquet at all"
    digest = hashlib.sha256(data).hexdigest()
    reconciled.call("PUT", f"/holdouts/data-science/{digest}", content=data)
    body = {"sha256": digest, "group": "data-science", "name": "x", "rows": 5, "columns": ["default"]}
    reconciled.call("POST", "/holdouts", json=body)
    quality = Quality(gates=("auc >= 0.5",), holdout_sha256=digest, rows=5, label="default")
    deploy(reconciled, "good", tier="prod", quality=quality)
    failed = reconciled.wait_for("credit", "failed", "waiting_approval", timeout_s=60)
    assert "is no Parquet file" in failed["rollout"]["message"]


def test_training_rows_are_found_out_in_the_clean_process_too(reconciled, deploy, hold_out, rows):
    from themisto.serving.holdout import frame_digests

    quality = hold_out(reconciled, "auc >= 0.5")
    deploy(reconciled, "good", tier="prod", quality=quality, data_sha256=frame_digests(rows, "default")[0])
    failed = reconciled.wait_for("credit", "failed", "waiting_approval", timeout_s=60)
    assert "The hold-out is the training data" in failed["rollout"]["message"]


def test_another_group_can_neither_store_for_a_group_nor_list_its_hold_outs(plane):
    plane.hub.add("rival", ["other-team"], scopes=["custom:themisto:deploy"])
    assert plane.call("PUT", f"/holdouts/data-science/{'a' * 64}", "rival", content=b"x").status_code == 403
    assert plane.call("GET", "/holdouts?group=data-science", "rival").status_code == 403


def test_control_plane_killed_while_it_judges_judges_once_after_its_start(
    control, settings, keys, hub, deploy, hold_out, tmp_path
):
    """The whole process, killed with the hold-out open; the verdict is stored once, and before that nothing is."""
    names = ("oidc_review", "triton_dev", "triton_prod", "triton_infer_dev", "operator", "session")
    env = environment(settings, keys, *names, THEMISTO_KEY_HUB_CONTROL="token-of-control")
    command, plane = [sys.executable, "-m", "themisto_hub.control"], Plane(control, hub)
    trials = settings.folder("control") / "trials"
    with process(command, env, tmp_path / "first.log") as first:
        wait_until(lambda: listening(settings.ports.control), 30, (tmp_path / "first.log").read_text)
        deploy(plane, "good", tier="prod", quality=hold_out(plane, "auc >= 0.9"))
        wait_until(lambda: list(trials.glob("*/holdout.parquet")), 60, lambda: plane.endpoint("credit"))
        os.killpg(first.pid, signal.SIGKILL)
        first.wait(10)
    with control.db.read() as session:
        assert results_of(session, "credit", 1) == ()
    with process(command, env, tmp_path / "second.log"):
        wait_until(lambda: listening(settings.ports.control), 30, (tmp_path / "second.log").read_text)
        waiting = plane.wait_for("credit", "waiting_approval", "failed", timeout_s=90)
    assert (waiting["rollout"]["state"], len(waiting["rollout"]["gates"])) == ("waiting_approval", 1)
    assert len(plane.audit(action="gate.judge")) == 1
    with control.db.read() as session:
        assert control.audit.verify(session).intact


# code, without a Triton


@pytest.fixture
def keeper(control):
    def make(apart) -> Gatekeeper:
        serving = control.serving
        return Gatekeeper(control, serving.artifacts, serving.holdouts, Prover(serving.artifacts), apart)

    return make


def test_code_is_asked_in_batches_and_judged_by_what_it_answered(plane, keeper, deploy_code, hold_out, rows):
    quality = hold_out(plane, "auc >= 0.9", frame=rows.head(150))
    made = Release.model_validate(deploy_code(plane, quality=quality).json())
    apart = InAProcess(plane.control.serving.artifacts)
    (found,) = keeper(apart).judge(made)
    assert (found.passed, apart.batches) == (True, 3)  # 64 rows each


def test_code_that_leaves_rows_unanswered_does_not_pass(plane, keeper, deploy_code, hold_out, rows):
    made = Release.model_validate(
        deploy_code(plane, quality=hold_out(plane, "auc >= 0.1", frame=rows.head(150))).json()
    )
    with pytest.raises(Invalid, match="did not answer every row"):
        keeper(InAProcess(plane.control.serving.artifacts, last=2)).judge(made)


def test_nothing_of_a_trial_stays_behind(plane, keeper, deploy, hold_out):
    made = Release.model_validate(deploy(plane, "good", quality=hold_out(plane, "auc >= 0.9")).json())
    assert keeper(None).judge(made)[0].passed
    assert list((plane.settings.folder("control") / "trials").iterdir()) == []


def test_a_file_that_was_changed_on_disk_judges_nobody(plane, keeper, deploy, hold_out):
    quality = hold_out(plane, "auc >= 0.9")
    made = Release.model_validate(deploy(plane, "good", quality=quality).json())
    file = plane.settings.folder("control") / "holdouts" / "data-science" / quality.holdout_sha256
    file.write_bytes(b"other rows")
    with pytest.raises(Failed, match="was changed on disk"):
        keeper(None).judge(made)


# dev: with a Triton


def test_a_worse_model_gets_no_traffic_and_is_never_loaded(tritons, reconciled, deploy, hold_out):
    tritons.start("dev")
    deploy(reconciled, "good")
    reconciled.wait_for("credit", "done", timeout_s=60)
    deploy(reconciled, "blind", quality=hold_out(reconciled))
    failed = reconciled.wait_for("credit", "failed", "running", timeout_s=60)
    assert (failed["rollout"]["state"], failed["stable"]) == ("failed", 1)
    verdict = gates_of(failed)[BETTER]
    assert (verdict["passed"], verdict["champion_release"]) == (False, 1)
    assert verdict["champion"] > verdict["value"]
    assert weights(reconciled) == {"credit--1": 100}
    assert "credit--2" not in tritons.client("dev").index()


def test_a_better_model_gets_its_traffic(tritons, reconciled, deploy, hold_out):
    tritons.start("dev")
    deploy(reconciled, "blind")
    reconciled.wait_for("credit", "done", timeout_s=60)
    deploy(reconciled, "good", quality=hold_out(reconciled))
    running = reconciled.wait_for("credit", "failed", "running", timeout_s=60)
    assert running["rollout"]["state"] == "running", running["rollout"]["message"]
    assert weights(reconciled) == {"credit--1": 95, "credit--2": 5}


def test_a_pinned_gate_stops_a_release_that_brings_none(tritons, reconciled, deploy, hold_out):
    tritons.start("dev")
    deploy(reconciled, "good")
    reconciled.wait_for("credit", "done", timeout_s=60)
    pinned = reconciled.call("PUT", "/endpoints/credit/gates", json=hold_out(reconciled).model_dump(mode="json"))
    assert pinned.json()["pinned"]["gates"] == [BETTER]
    deploy(reconciled, "blind")
    failed = reconciled.wait_for("credit", "failed", "running", timeout_s=60)
    assert failed["rollout"]["message"].endswith("(pinned)")
    assert weights(reconciled) == {"credit--1": 100}


def test_labels_that_show_a_stable_release_wrong_are_told(tritons, reconciled, deploy, hold_out):
    tritons.start("dev")
    deploy(reconciled, "good", quality=hold_out(reconciled, "accuracy >= 0.9"))
    reconciled.wait_for("credit", "done", timeout_s=60)
    row = {"time": datetime.now(UTC), "endpoint": "credit", "release": "credit@1", "protocol": "http", "path": "/"}
    inputs = json.dumps({"income": [1.0], "age": [40.0], "south": [0]})
    answers = [json.dumps({"label": [n % 2], "probabilities": [1.0 - n % 2, float(n % 2)]}) for n in range(80)]
    rows = [
        row | {"request_id": str(n), "status": 200, "latency_ms": 1.0, "inputs": inputs, "outputs": answer}
        for n, answer in enumerate(answers)
    ]
    write_parquet(reconciled.settings.folder("gateway") / "predictions", "part", rows)
    truth = pd.DataFrame({"id": [str(n) for n in range(80)], "label": [1 - n % 2 for n in range(80)]})
    posted = reconciled.call("POST", "/endpoints/credit/labels", content=truth.to_parquet(index=False))
    assert posted.json() == {"labels": 80, "new": 80, "changed": 0}
    wait_until(lambda: reconciled.audit(action="gate.breached"), 20, "no breach was told")
    (breach,) = reconciled.audit(action="gate.breached")
    assert (breach.actor, breach.object) == ("themisto", "release/credit@1")
    assert reconciled.endpoint("credit")["stable"] == 1


def test_code_answers_the_hold_out_apart_beside_an_onnx_champion(
    tritons, reconciled, running_pool, deploy, deploy_code, hold_out
):
    tritons.start("dev")
    deploy(reconciled, "blind")
    reconciled.wait_for("credit", "done", timeout_s=60)
    first = Release.model_validate(reconciled.call("GET", "/endpoints/credit/releases/1").json())
    row = {"inputs": {"income": [1.0], "age": [0.0], "south": [1]}}
    golden = Golden(**row, outputs={"label": [0], "probabilities": [[0.5, 0.5]]})
    asked = hold_out(reconciled, BETTER, "auc >= 0.9")
    deploy_code(reconciled, source=CLASSIFIER, signature=first.signature, golden=golden, quality=asked)
    running = reconciled.wait_for("credit", "failed", "running", timeout_s=90)
    assert running["rollout"]["state"] == "running", running["rollout"]["message"]
    assert gates_of(running)["auc >= 0.9"]["value"] > 0.9


def test_the_next_try_is_judged_against_what_is_stable_by_then(tritons, reconciled, deploy, hold_out):
    tritons.start("dev")
    deploy(reconciled, "blind")
    reconciled.wait_for("credit", "done", timeout_s=60)
    deploy(reconciled, "north", quality=hold_out(reconciled))
    running = reconciled.wait_for("credit", "failed", "running", timeout_s=60)
    reconciled.call("POST", f"/endpoints/credit/rollouts/{running['rollout']['id']}/promote")
    deploy(reconciled, "good", rollout={"strategy": "replace"})
    wait_until(lambda: reconciled.endpoint("credit")["stable"] == 3, 60, lambda: reconciled.endpoint("credit"))
    deploy(reconciled, "north", quality=hold_out(reconciled))
    failed = reconciled.wait_for("credit", "failed", "running", timeout_s=60)
    assert gates_of(failed)[BETTER]["champion_release"] == 3
    assert failed["rollout"]["state"] == "failed"
