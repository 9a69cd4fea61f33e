"""Traffic that moves by itself: real Envoy, real Triton, the real prediction log, callers all the while."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

import pytest
from tests.integration.control_serving.conftest import Plane, environment, listening, process, wait_until

from themisto.serving.models import Golden
from themisto.serving.rollout import RolloutRequest

pytestmark = pytest.mark.timeout(170)


def failing(limit: int) -> bytes:
    """ONNX: y = 2 x, but an error for every x of `limit` and more."""
    from onnx import TensorProto, helper

    def value(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1])

    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["row"], to=TensorProto.INT64),
            helper.make_node("Gather", ["twos", "row"], ["two"]),
            helper.make_node("Mul", ["x", "two"], ["y"]),
        ],
        "failing",
        [value("x")],
        [value("y")],
        [helper.make_tensor("twos", TensorProto.FLOAT, [limit], [2.0] * limit)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model.SerializeToString()


def canary(*steps):
    return RolloutRequest(steps=steps, dwell_s=0)


def actions(plane, *wanted):
    return [row.action for row in plane.audit(actor="themisto") if row.action in wanted]


def post_failing(plane, new_request, limit):
    data = failing(limit)
    plane.upload(data)
    golden = Golden(inputs={"x": [1.0, 2.0]}, outputs={"y": [2.0, 4.0]})
    body = new_request(data, golden=golden, cell="fails", rollout=canary(20, 100))
    assert plane.call("POST", "/endpoints/credit/releases", json=body).status_code == 201


def test_good_canary_reaches_all_traffic_by_itself(tritons, reconciled, deploy, gateway, callers):
    tritons.start("dev")
    deploy(reconciled, 2.0)
    reconciled.wait_for("credit", "done")
    gateway()
    with callers:
        wait_until(lambda: sum(callers.got.values()) > 300, 30, "no answers")
        deploy(reconciled, 2.0, parameters={"seed": "2"}, rollout=canary(30, 60, 100))
        done = reconciled.wait_for("credit", "done", "rolled_back", timeout_s=120)
        asked = sum(callers.got.values())
        wait_until(lambda: sum(callers.got.values()) > asked + 200, 30, "no answers after")
    assert (done["stable"], done["rollout"]["state"]) == (2, "done"), done["rollout"]["message"]
    assert actions(reconciled, "rollout.step", "rollout.done")[1:] == ["rollout.step", "rollout.done"]
    assert callers.failed == {}
    assert callers.wrong == []


def test_canary_that_fails_one_in_five_goes_back_by_itself(
    tritons, reconciled, deploy, new_request, gateway, callers, settings
):
    tritons.start("dev")
    deploy(reconciled, 2.0)
    reconciled.wait_for("credit", "done")
    gateway()
    with callers:
        wait_until(lambda: sum(callers.got.values()) > 300, 30, "no answers")
        post_failing(reconciled, new_request, limit=80)
        wait_until(lambda: callers.stood_in, 60, "the canary does not fail")
        began = time.monotonic()
        back = reconciled.wait_for("credit", "rolled_back", "done", timeout_s=90)
        took = time.monotonic() - began
        wait_until(lambda: "credit--2" not in (settings.xds / "rds.json").read_text(), 30, "still routed")
    assert (back["stable"], back["candidate"], back["rollout"]["state"]) == (1, None, "rolled_back")
    assert back["rollout"]["message"].startswith("went back by itself: errors: ")
    assert actions(reconciled, "rollout.breach") == ["rollout.breach"]
    assert set(callers.stood_in) == {"earlier"}
    assert callers.failed == {}
    print(f"\nback {took:.1f} s after the first failure; {callers.got}")


def test_blue_green_and_its_return_fail_no_request_and_bring_the_whole_record_back(
    tritons, reconciled, deploy, gateway, callers
):
    tritons.start("dev")
    deploy(reconciled, 2.0)
    reconciled.wait_for("credit", "done")
    deploy(reconciled, 2.0, parameters={"seed": "2"}, rollout=RolloutRequest(strategy="replace"))
    wait_until(lambda: reconciled.endpoint("credit")["stable"] == 2, 30, "not replaced")
    before = reconciled.control.serving.routing.table()
    gateway()
    with callers:
        wait_until(lambda: callers.got["credit@2", 200] > 100, 30, "no answers")
        deploy(reconciled, 3.0, rollout=RolloutRequest(strategy="replace"))
        wait_until(lambda: callers.got["credit@3", 200] > 200, 30, lambda: reconciled.endpoint("credit"))
        held = tritons.client("dev").index()
        known = callers.got["credit@2", 200]
        answer = reconciled.call("POST", "/endpoints/credit/rollback", json={"reason": "odd"})
        wait_until(lambda: callers.got["credit@2", 200] > known + 200, 30, "nothing came back")
    assert answer.json()["stable"] == 2
    assert "credit--2" in held  # the way back stays loaded
    assert reconciled.control.serving.routing.table() == before
    assert callers.failed == {}
    assert callers.wrong == []


def test_killed_control_plane_goes_on_with_the_steps_it_had_taken(
    tritons, control, settings, keys, hub, deploy, gateway, callers, tmp_path
):
    """kill -9 of the whole process after its first step; the second one is taken once, after its next start."""
    tritons.start("dev")
    names = ("oidc_review", "triton_dev", "triton_prod", "triton_infer_dev", "operator", "session")
    env = environment(settings, keys, *names, THEMISTO_KEY_HUB_CONTROL="token-of-control")
    command, plane = [sys.executable, "-m", "themisto_hub.control"], Plane(control, hub)
    with contextlib.ExitStack() as calling:
        with process(command, env, tmp_path / "first.log") as first:
            wait_until(lambda: listening(settings.ports.control), 30, (tmp_path / "first.log").read_text)
            deploy(plane, 2.0)
            plane.wait_for("credit", "done")
            gateway()
            calling.enter_context(callers)
            deploy(plane, 2.0, parameters={"seed": "2"}, rollout=canary(50, 60, 100))
            wait_until(lambda: plane.endpoint("credit")["weight_pct"] == 60, 90, lambda: plane.endpoint("credit"))
            os.killpg(first.pid, signal.SIGKILL)
            first.wait(10)
        asked = sum(callers.got.values())
        wait_until(lambda: sum(callers.got.values()) > asked + 200, 30, "nothing answers without a control plane")
        with process(command, env, tmp_path / "second.log"):
            wait_until(lambda: listening(settings.ports.control), 30, (tmp_path / "second.log").read_text)
            done = plane.wait_for("credit", "done", "rolled_back", timeout_s=90)
    assert (done["stable"], done["rollout"]["state"]) == (2, "done"), done["rollout"]["message"]
    assert actions(plane, "rollout.step", "rollout.done") == ["rollout.done", "rollout.step", "rollout.done"]
    assert callers.failed == {}
    with control.db.read() as session:
        assert control.audit.verify(session).intact
