"""The reconciler with real Tritons: what is stored comes true, whatever is killed."""

from __future__ import annotations

import logging
import os
import signal
import sys
from datetime import UTC, datetime

import httpx
import pytest
from tests.integration.control_serving.conftest import Plane, environment, listening, process, wait_until
from tests.integration.control_serving.traffic import backends

from themisto.serving.models import Column, Signature
from themisto.serving.rollout import RolloutRequest
from themisto_hub.gateway.predictions import write_parquet

pytestmark = pytest.mark.timeout(150)

SIGNATURE = Signature(inputs=(Column(name="x", dtype="FP32"),), outputs=(Column(name="y", dtype="FP32"),))


def weights(plane, name="credit"):
    """Release to weight, as the route table has it."""
    routes = {route.name: route for route in plane.control.serving.routing.table().endpoints}
    return {t.release: t.weight_pct for t in routes[name].releases} if name in routes else {}


def answer(tritons, name, tier="dev"):
    return tritons.client(tier).infer(name, {"x": [10.0]}, SIGNATURE)["y"]


def test_dev_release_is_loaded_proved_and_routed(tritons, reconciled, deploy):
    tritons.start("dev")
    assert deploy(reconciled, 2.0).status_code == 201
    done = reconciled.wait_for("credit", "done")
    assert (done["stable"], "3 golden rows repeated" in done["rollout"]["message"]) == (1, True)
    assert answer(tritons, "credit--1") == [20.0]
    assert weights(reconciled) == {"credit--1": 100}


def test_second_release_is_a_canary_and_promotion_keeps_the_way_back(tritons, reconciled, deploy):
    tritons.start("dev")
    deploy(reconciled, 2.0)
    reconciled.wait_for("credit", "done")
    deploy(reconciled, 3.0)
    running = reconciled.wait_for("credit", "running")
    assert weights(reconciled) == {"credit--1": 95, "credit--2": 5}
    reconciled.call("POST", f"/endpoints/credit/rollouts/{running['rollout']['id']}/promote")
    assert weights(reconciled) == {"credit--2": 100}
    back = reconciled.call("POST", "/endpoints/credit/rollback", json={"reason": "odd"})
    assert (back.json()["stable"], weights(reconciled)) == (1, {"credit--1": 100})
    assert answer(tritons, "credit--1") == [20.0]


def test_shadow_gets_copies_and_no_traffic(tritons, reconciled, deploy):
    tritons.start("dev")
    deploy(reconciled, 2.0)
    reconciled.wait_for("credit", "done")
    deploy(reconciled, 3.0, rollout=RolloutRequest(strategy="shadow"))
    reconciled.wait_for("credit", "running")
    route = reconciled.control.serving.routing.table().endpoints[0]
    assert [(t.release, t.weight_pct, t.shadow) for t in route.releases] == [
        ("credit--1", 100, False),
        ("credit--2", 0, True),
    ]


def test_wrong_goldens_fail_the_rollout_and_leave_stable_alone(tritons, reconciled, deploy):
    tritons.start("dev")
    deploy(reconciled, 2.0)
    reconciled.wait_for("credit", "done")
    deploy(reconciled, 3.0, claims=4.0)
    failed = reconciled.wait_for("credit", "failed")
    assert (failed["stable"], failed["rollout"]["stage"]) == (1, "golden")
    assert "row 2, y: 9.0 for 12.0" in failed["rollout"]["message"]
    wait_until(lambda: "credit--2" not in tritons.client("dev").index(), 20, "the failed release stays loaded")
    assert weights(reconciled) == {"credit--1": 100}


def test_artifact_that_is_no_model_fails_with_tritons_cause(tritons, reconciled, new_request):
    tritons.start("dev")
    reconciled.upload(b"no model")
    reconciled.call("POST", "/endpoints/credit/releases", json=new_request(b"no model"))
    failed = reconciled.wait_for("credit", "failed")
    assert failed["rollout"]["stage"] == "load"
    assert "INVALID_PROTOBUF" in failed["rollout"]["message"]


def test_failed_deploy_can_be_followed_by_a_mended_one(tritons, reconciled, deploy):
    tritons.start("dev")
    deploy(reconciled, 2.0, claims=3.0)
    reconciled.wait_for("credit", "failed")
    deploy(reconciled, 2.0)
    assert reconciled.wait_for("credit", "done")["stable"] == 2


def test_triton_that_is_down_is_waited_for(tritons, reconciled, deploy):
    assert deploy(reconciled, 2.0).status_code == 201
    wait_until(lambda: "Trying again" in reconciled.endpoint("credit")["rollout"]["message"], 30, "no word of it")
    tritons.start("dev")
    assert reconciled.wait_for("credit", "done")["stable"] == 1


def test_restarted_triton_gets_its_models_back(tritons, reconciled, deploy):
    tritons.start("dev")
    deploy(reconciled, 2.0)
    reconciled.wait_for("credit", "done")
    tritons.kill("dev")
    tritons.start("dev")
    assert tritons.client("dev").index() == {}
    wait_until(lambda: answers(tritons, "credit--1", [20.0]), 40, "not loaded again")
    assert weights(reconciled) == {"credit--1": 100}


def test_after_a_restart_the_endpoints_that_were_asked_most_come_first(tritons, reconciled, deploy, caplog):
    tritons.start("dev")
    asked = {"calm": 1, "quiet": 0, "busy": 3, "usual": 2}
    for name in asked:
        deploy(reconciled, 2.0, name=name)
        reconciled.wait_for(name, "done")
    now = datetime.now(UTC)
    row = {"time": now, "caller": "scientist", "protocol": "http", "path": "/", "status": 200, "latency_ms": 1.0}
    rows = [row | {"endpoint": name, "release": f"{name}@1"} for name, times in asked.items() for _ in range(times)]
    write_parquet(reconciled.settings.folder("gateway") / "predictions", "part", rows)
    caplog.set_level(logging.INFO, "themisto_hub.control.serving.triton")
    tritons.kill("dev")
    tritons.start("dev")
    wait_until(lambda: len(loaded(caplog)) == len(asked), 60, lambda: caplog.text)
    assert loaded(caplog) == ["busy--1", "usual--1", "calm--1", "quiet--1"]


def loaded(caplog):
    return [r.args[0] for r in caplog.records if r.getMessage().endswith("is loaded and answers")]


def test_model_whose_backend_was_killed_is_loaded_anew(tritons, reconciled, deploy):
    tritons.start("dev")
    deploy(reconciled, 2.0)
    reconciled.wait_for("credit", "done")
    killed = {one.pid: one for one in backends(reconciled.settings)}
    assert killed, "the backend's process was not found"
    for backend in killed.values():
        backend.kill()

    def anew():
        others = {one.pid for one in backends(reconciled.settings)} - set(killed)
        return others and answers(tritons, "credit--1", [20.0])

    wait_until(anew, 60, "not loaded again")


def answers(tritons, name, expected, tier="dev"):
    from themisto.errors import ThemistoError

    try:
        return answer(tritons, name, tier) == expected
    except ThemistoError:
        return False


def test_retired_endpoint_leaves_route_table_and_triton(tritons, reconciled, deploy):
    tritons.start("dev")
    deploy(reconciled, 2.0)
    reconciled.wait_for("credit", "done")
    assert reconciled.call("POST", "/endpoints/credit/retire").json()["retired"] is True
    assert weights(reconciled) == {}
    wait_until(lambda: tritons.client("dev").index() == {}, 20, "still loaded")


def test_prod_triton_holds_nothing_before_approval_and_the_release_after_it(
    tritons, reconciled, deploy, review, browser
):
    tritons.start("dev")
    tritons.start("prod")
    deploy(reconciled, 2.0, tier="prod")
    waiting = reconciled.wait_for("credit", "waiting_approval", "failed")
    assert waiting["rollout"]["state"] == "waiting_approval", waiting["rollout"]["message"]
    assert tritons.client("prod").index() == tritons.client("dev").index() == {}
    assert weights(reconciled) == {}
    page = browser.open(waiting["rollout"]["review_url"], "reviewer")
    assert browser.decide(page, "approve").status_code == 200
    assert reconciled.wait_for("credit", "done")["stable"] == 1
    assert answer(tritons, "credit--1", "prod") == [20.0]
    assert tritons.client("dev").index() == {}


def test_prod_artifact_that_does_not_repeat_its_goldens_never_waits_for_approval(reconciled, deploy):
    deploy(reconciled, 2.0, claims=3.0, tier="prod")
    failed = reconciled.wait_for("credit", "failed", "waiting_approval")
    assert (failed["rollout"]["state"], failed["rollout"]["stage"]) == ("failed", "prove")


def test_killed_control_plane_finishes_the_rollout_after_its_start(
    tritons, control, settings, keys, hub, deploy, tmp_path
):
    """The whole process, killed while the second release is loading; the first answers throughout."""
    tritons.start("dev")
    names = ("oidc_review", "triton_dev", "triton_prod", "triton_infer_dev", "operator", "session")
    env = environment(settings, keys, *names, THEMISTO_KEY_HUB_CONTROL="token-of-control")
    command, plane = [sys.executable, "-m", "themisto_hub.control"], Plane(control, hub)
    with process(command, env, tmp_path / "first.log") as first:
        wait_until(lambda: listening(settings.ports.control), 30, (tmp_path / "first.log").read_text)
        deploy(plane, 2.0)
        plane.wait_for("credit", "done")
        tritons.hold("dev")
        deploy(plane, 3.0)
        wait_until(lambda: "loads credit@2" in plane.endpoint("credit")["rollout"]["message"], 20, "not begun")
        os.killpg(first.pid, signal.SIGKILL)
        first.wait(10)
        tritons.go_on("dev")
    assert answer(tritons, "credit--1") == [20.0]
    with process(command, env, tmp_path / "second.log"):
        wait_until(lambda: listening(settings.ports.control), 30, (tmp_path / "second.log").read_text)
        assert plane.wait_for("credit", "running")["candidate"] == 2
        wait_until(lambda: "credit--2" in (settings.xds / "rds.json").read_text(), 30, "no route")
    assert answer(tritons, "credit--2") == [30.0]
    with control.db.read() as session:
        assert control.audit.verify(session).intact


def test_operator_rolls_back_while_the_hub_is_down(tritons, reconciled, deploy, hub, keys):
    tritons.start("dev")
    deploy(reconciled, 2.0)
    reconciled.wait_for("credit", "done")
    deploy(reconciled, 3.0, rollout=RolloutRequest(strategy="replace"))
    wait_until(lambda: reconciled.endpoint("credit")["stable"] == 2, 20, "not replaced")
    hub.stop()
    key = keys.operator.get_secret_value()
    url = f"{reconciled.http.base_url}operator/rollback/credit"
    refused = httpx.post(url, headers={"X-Operator-Key": "guess"})
    proxied = httpx.post(url, headers={"X-Operator-Key": key, "X-Forwarded-For": "10.0.0.1"})
    done = httpx.post(url, headers={"X-Operator-Key": key}, timeout=20)
    assert (refused.status_code, proxied.status_code, done.status_code) == (403, 404, 200)
    assert weights(reconciled) == {"credit--1": 100}
    assert [row.outcome for row in reconciled.audit(actor="operator")] == ["refused", "done"]
