"""Code that people deploy: proved, loaded and routed in a model server of its group's own."""

from __future__ import annotations

import io
import sys
import zipfile

import pytest
from tests.integration.control_serving.conftest import environment, process, wait_until

from themisto.serving.models import Artifact, Column, Golden, Signature
from themisto_hub.model_server import pool

pytestmark = pytest.mark.timeout(150)

SIGNATURE = Signature(inputs=(Column(name="x", dtype="FP32"),), outputs=(Column(name="y", dtype="FP32"),))


@pytest.fixture
def running_pool(settings, keys, tritons):
    settings.folder("gateway").mkdir(parents=True)
    settings.folder("logs").mkdir(parents=True, exist_ok=True)
    env = environment(settings, keys, "triton_dev", "triton_prod")
    for parent in [settings.state, *settings.state.parents]:  # the members' uids pass through
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o711)
    command = [sys.executable, "-m", "themisto_hub.model_server", "pool"]
    with process(command, env, settings.folder("logs") / "pool") as running:
        yield running
        running.terminate()
        running.wait(15)


@pytest.fixture
def deploy_code(new_request):
    def post(plane, factor, *, claims=None, **change):
        content = packed(f"def predict(frame):\n    return frame['x'] * {factor}\n")
        digest = plane.upload(content)
        said = factor if claims is None else claims
        body = new_request(
            artifact=Artifact(kind="python", sha256=digest, size_bytes=len(content)),
            golden=Golden(inputs={"x": [1.0, 2.0]}, outputs={"y": [said, 2 * said]}),
            **change,
        )
        answer = plane.call("POST", "/endpoints/rules/releases", json=body)
        assert answer.status_code == 201, answer.text

    return post


def packed(source):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("function.py", source)
        archive.writestr("signature.json", SIGNATURE.model_dump_json())
    return data.getvalue()


def client(settings, keys, tier):
    return pool.client(settings, keys, "data-science", tier, wait_s=1.0)


def test_function_runs_in_its_groups_own_triton_and_not_in_the_tiers(
    tritons, reconciled, running_pool, deploy_code, settings, keys
):
    tritons.start("dev")
    deploy_code(reconciled, 2.0)
    assert reconciled.wait_for("rules", "done", "failed", timeout_s=60)["stable"] == 1
    assert client(settings, keys, "dev").infer("rules--1", {"x": [10.0]}, SIGNATURE)["y"] == [20.0]
    assert tritons.client("dev").index() == {}
    assert "http.sock" in (settings.xds / "cds.json").read_text()


def test_rule_is_loaded_beside_its_release_and_both_are_routed(
    tritons, reconciled, running_pool, deploy_code, settings, keys
):
    tritons.start("dev")
    rule = packed("def predict(frame):\n    return frame['x'] + 100\n")
    declared = {"rule": {"kind": "python", "sha256": reconciled.upload(rule), "size_bytes": len(rule)}}
    deploy_code(reconciled, 2.0, fallback=declared | {"default": {"y": 0.5}})
    assert reconciled.wait_for("rules", "done", "failed", timeout_s=60)["stable"] == 1
    code = client(settings, keys, "dev")
    assert code.infer("rule.rules--1", {"x": [10.0]}, SIGNATURE)["y"] == [110.0]
    code.unload("rule.rules--1")
    wait_until(lambda: "rule.rules--1" in code.index(), 30, "the reconciler loads the rule again")
    assert "rule.rules--1" in (settings.xds / "cds.json").read_text()


def test_prod_function_is_proved_apart_and_leaves_nothing_behind(reconciled, running_pool, deploy_code, settings, keys):
    deploy_code(reconciled, 2.0, tier="prod")
    waiting = reconciled.wait_for("rules", "waiting_approval", "failed", timeout_s=60)
    assert "A model server apart repeated 2" in waiting["rollout"]["message"]
    assert client(settings, keys, "dev").index() == {}
    assert not (settings.folder("pool-state") / "data-science-prod").exists()


def test_code_moves(tritons, reconciled, running_pool, deploy_code, settings, keys):
    rule = packed("def predict(frame):\n    return frame['x'] + 100\n")
    declared = {"rule": {"kind": "python", "sha256": reconciled.upload(rule), "size_bytes": len(rule)}}
    deploy_code(reconciled, 2.0, fallback=declared)
    reconciled.wait_for("rules", "done", "failed", timeout_s=60)
    assert reconciled.call("PUT", "/endpoints/rules/offer", json={"group": "platform-admins"}).status_code == 200
    accepted = reconciled.call("POST", "/endpoints/rules/offer/accept", "admin", timeout=60)
    assert accepted.status_code == 200, accepted.text
    theirs = pool.client(settings, keys, "platform-admins", "dev")
    assert theirs.infer("rules--1", {"x": [10.0]}, SIGNATURE)["y"] == [20.0]
    assert theirs.infer("rule.rules--1", {"x": [10.0]}, SIGNATURE)["y"] == [110.0]
    clusters = (settings.xds / "cds.json").read_text()
    assert "platform-admins-dev" in clusters
    former = client(settings, keys, "dev")
    wait_until(lambda: "rules--1" not in former.index(), 30, "it is gone from the former owner's")


def test_code_that_cannot_move(tritons, reconciled, running_pool, deploy_code, settings, keys):
    deploy_code(reconciled, 2.0)
    release = reconciled.wait_for("rules", "done", "failed", timeout_s=60)
    assert release["stable"] == 1
    reconciled.call("PUT", "/endpoints/rules/offer", json={"group": "platform-admins"})
    (artifact,) = (settings.folder("control") / "artifacts").iterdir()
    kept = artifact.rename(artifact.with_suffix(".away"))
    refused = reconciled.call("POST", "/endpoints/rules/offer/accept", "admin", timeout=60)
    assert refused.status_code == 500
    assert "Nothing was handed over" in refused.text
    assert reconciled.endpoint("rules")["group"] == "data-science"
    kept.rename(artifact)
    assert reconciled.call("POST", "/endpoints/rules/offer/accept", "admin", timeout=60).status_code == 200


def test_function_that_does_not_repeat_its_goldens_fails_the_proof(reconciled, running_pool, deploy_code):
    deploy_code(reconciled, 2.0, claims=3.0, tier="prod")
    failed = reconciled.wait_for("rules", "waiting_approval", "failed", timeout_s=60)
    assert (failed["rollout"]["state"], failed["rollout"]["stage"]) == ("failed", "prove")


ANSWERS = {
    "objects": "[object() for _ in frame['x']]",
    "too few rows": "[1.0]",
    "no rows": "[]",
    "nothing": "None",
    "words": "['one'] * len(frame)",
    "a frame of other columns": "__import__('pandas').DataFrame({'a': frame['x'], 'b': frame['x']})",
    "nested": "[[1.0, 2.0]] * len(frame)",
    "raises": "1 / 0",
    "complex": "[1j] * len(frame)",
}
PREDICT = """
def predict(frame):
    kind = int(frame['x'].iloc[0])
"""
SOURCE = PREDICT + "".join(
    f"    if kind == {number}:\n        return {answer}\n"
    for number, answer in enumerate(["frame['x'] * 2", *ANSWERS.values()])
)


def test_answers_that_cannot_be_sent_are_errors_in_the_protocols_shape(
    reconciled, running_pool, new_request, settings, keys
):
    content = packed(SOURCE)
    zero = Golden(inputs={"x": [0.0, 0.0]}, outputs={"y": [0.0, 0.0]})
    artifact = Artifact(kind="python", sha256=reconciled.upload(content), size_bytes=len(content))
    body = new_request(artifact=artifact, golden=zero)
    answer = reconciled.call("POST", "/endpoints/rules/releases", json=body)
    assert answer.status_code == 201, answer.text
    loaded = reconciled.wait_for("rules", "done", "failed", timeout_s=60)
    assert loaded["stable"] == 1, loaded["rollout"]
    client = pool.client(settings, keys, "data-science", "dev", wait_s=1.0)
    got = {kind: ask(client, float(number)) for number, kind in enumerate(ANSWERS, 1)}
    assert {kind: (a.status_code, a.text) for kind, a in got.items() if not is_error(a)} == {}
    assert ask(client, 0.0).json()["outputs"][0]["data"] == [0.0, 0.0]


def ask(client, value):
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [value] * 2}]}
    return client._http.post("/v2/models/rules--1/infer", json=body)


def is_error(answer):
    """The Open Inference Protocol's: a status of failure, and one sentence under `error`."""
    said = answer.json().get("error")
    return answer.status_code in (400, 500) and isinstance(said, str) and bool(said)
