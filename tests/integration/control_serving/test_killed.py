"""kill -9 between each two steps of a rollout, of each process that it needs: docs/rollouts.md says what happens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from tests.integration.control_serving.conftest import Plane, environment, listening, process, wait_until
from tests.integration.control_serving.traffic import backends

from themisto.serving.models import RolloutRequest

pytestmark = pytest.mark.timeout(170)

BY_HAND = RolloutRequest(steps=(20, 60, 100), manual=True)
SHARES = (20, 60)


class ControlPlane:
    """The control plane as a process of its own, as the supervisor starts it: killed and started again."""

    def __init__(self, settings, keys, running, folder):
        names = ("oidc_review", "triton_dev", "triton_prod", "triton_infer_dev", "triton_infer_prod", "session")
        self._env = environment(settings, keys, *names, THEMISTO_KEY_HUB_CONTROL="token-of-control")
        self._port, self._running, self._log = settings.ports.control, running, folder / "control.log"
        self._process: subprocess.Popen[bytes]

    def start(self):
        command = [sys.executable, "-m", "themisto_hub.control"]
        self._process = self._running.enter_context(process(command, self._env, self._log))
        wait_until(lambda: listening(self._port), 60, self._log.read_text)

    def kill(self):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)


@pytest.fixture
def control_plane(settings, keys, control, tmp_path):
    with contextlib.ExitStack() as running:
        yield ControlPlane(settings, keys, running, tmp_path)


@pytest.fixture
def beside(tritons, reconciled, deploy, gateway):
    """`credit@2` runs beside `credit@1`, and moves by hand alone."""
    tritons.start("dev")
    deploy(reconciled, 2.0)
    reconciled.wait_for("credit", "done")
    gateway()

    def start(share):
        if place(reconciled) != (1, 20, "running"):
            deploy(reconciled, 2.0, parameters={"seed": "2"}, rollout=BY_HAND)
        wait_until(lambda: place(reconciled) == (1, 20, "running"), 60, lambda: reconciled.endpoint("credit"))
        while place(reconciled)[1] < share:
            step(reconciled)

    start(SHARES[0])
    return start


def place(plane):
    found = plane.endpoint("credit")
    return found["stable"], found["weight_pct"], found["rollout"]["state"]


def end(plane, callers):
    """The candidate answers again, or went back with a reason; then a person ends it."""
    before = callers.got["credit@2", 200]
    back = lambda: place(plane) == (1, 0, "rolled_back")  # noqa: E731
    wait_until(lambda: callers.got["credit@2", 200] > before + 100 or back(), 60, lambda: plane.endpoint("credit"))
    plane.call("POST", "/endpoints/credit/rollback", json={"reason": "enough seen"})  # 409 where it went back just now
    assert back()
    said = plane.endpoint("credit")["rollout"]["message"]
    assert said == "rolled back by scientist: enough seen" or "error" in said.removeprefix("went back by itself: ")


def step(plane):
    rollout = plane.endpoint("credit")["rollout"]
    path = f"/endpoints/credit/rollouts/{rollout['id']}/step"
    answer = plane.call("POST", path, json={"to": rollout["step"] + 1})
    assert answer.status_code == 200, answer.text


def answer_more(callers, *releases):
    """Until each of the releases has answered a hundred more."""
    before = {release: callers.got[release, 200] for release in releases}
    done = lambda: all(callers.got[release, 200] > n + 100 for release, n in before.items())  # noqa: E731
    wait_until(done, 60, lambda: dict(callers.got))


def told(plane, release="credit@2"):
    """What the audit chain says of the release's rollouts, in order; the chain is whole."""
    with plane.control.db.read() as session:
        assert plane.control.audit.verify(session).intact
    number = int(release.partition("@")[2])
    return [row.action for row in plane.audit(outcome="done") if (row.after or {}).get("release") in (release, number)]


def test_control_plane_killed_between_each_two_steps_takes_none_twice_and_fails_nobody(
    tritons, control, control_plane, hub, deploy, gateway, callers
):
    tritons.start("dev")
    control_plane.start()
    plane = Plane(control, hub)
    deploy(plane, 2.0)
    plane.wait_for("credit", "done")
    gateway()
    with callers:
        deploy(plane, 2.0, parameters={"seed": "2"}, rollout=BY_HAND)
        plane.wait_for("credit", "running")
        for share in SHARES:
            answer_more(callers, "credit@1", "credit@2")
            control_plane.kill()
            answer_more(callers, "credit@1", "credit@2")
            control_plane.start()
            assert place(plane) == (1, share, "running")
            step(plane)
        control_plane.kill()
        answer_more(callers, "credit@2")
        control_plane.start()
    assert place(plane) == (2, 0, "done")
    assert told(plane) == ["rollout.open", "rollout.running", "rollout.step", "rollout.promote"]
    assert callers.failed == {}
    assert callers.wrong == []


def test_gateway_killed_between_each_two_steps_comes_back_with_the_same_shares(beside, reconciled, gateway, callers):
    with callers:
        for share in SHARES:
            answer_more(callers, "credit@1", "credit@2")
            before = gateway.routes()
            gateway.kill_envoy()
            wait_until(lambda: callers.got["none", 0] > 3, 30, "it answers still")
            gateway.start_envoy()
            answer_more(callers, "credit@1", "credit@2")
            assert (place(reconciled), gateway.routes()) == ((1, share, "running"), before)
            step(reconciled)
            callers.got["none", 0] = 0
        answer_more(callers, "credit@2")
    assert place(reconciled) == (2, 0, "done")
    assert told(reconciled)[-3:] == ["rollout.running", "rollout.step", "rollout.promote"]
    assert callers.wrong == []


def test_model_server_killed_at_each_step_promotes_nothing_and_both_answer_again(beside, tritons, reconciled, callers):
    """Both releases fail alike, which says nothing; twenty failures in a row are an outage all the same."""
    with callers:
        for share in SHARES:
            beside(share)
            answer_more(callers, "credit@1", "credit@2")
            tritons.kill("dev")
            tritons.start("dev")
            answer_more(callers, "credit@1")
            end(reconciled, callers)
    assert not {"rollout.done", "rollout.promote"} & set(told(reconciled))
    assert callers.wrong == []


def test_candidates_backend_killed_at_each_step_fails_nobody_and_promotes_nothing(beside, reconciled, callers):
    """Stable answers in its place until it is loaded again: errors of the candidate, tolerated or not."""
    with callers:
        for share in SHARES:
            beside(share)
            answer_more(callers, "credit@1", "credit@2")
            stood_in = callers.stood_in["earlier"]
            (stub,) = backends(reconciled.settings, "credit--2")
            stub.kill()
            wait_until(lambda before=stood_in: callers.stood_in["earlier"] > before, 30, "nothing stands in")
            answer_more(callers, "credit@1")
            end(reconciled, callers)
    assert not {"rollout.done", "rollout.promote"} & set(told(reconciled))
    assert set(callers.stood_in) == {"earlier"}
    assert callers.failed == {}
    assert callers.wrong == []


def test_stables_backend_killed_at_each_step_moves_nothing_and_is_loaded_again(beside, reconciled, callers):
    with callers:
        for share in SHARES:
            answer_more(callers, "credit@1", "credit@2")
            (stub,) = backends(reconciled.settings, "credit--1")
            stub.kill()
            answer_more(callers, "credit@2")
            answer_more(callers, "credit@1")
            assert place(reconciled) == (1, share, "running")
            step(reconciled)
        answer_more(callers, "credit@2")
    assert told(reconciled)[-3:] == ["rollout.running", "rollout.step", "rollout.promote"]
    assert {release for release, _ in callers.failed} <= {"credit@1", "none"}
    assert callers.wrong == []


def test_hub_that_is_gone_between_each_two_steps_moves_nothing_and_fails_nobody(beside, reconciled, hub, callers):
    with callers:
        for share in SHARES:
            hub.stop()
            answer_more(callers, "credit@1", "credit@2")
            hub.start()
            assert place(reconciled) == (1, share, "running")
            step(reconciled)
        answer_more(callers, "credit@2")
    assert told(reconciled)[-3:] == ["rollout.running", "rollout.step", "rollout.promote"]
    assert callers.failed == {}


def test_control_plane_killed_at_each_stage_before_traffic_loads_nothing_that_nobody_approved(
    tritons, control, control_plane, hub, deploy, browser
):
    """Killed while it proves, while a person is waited for, and while it loads what she approved."""
    tritons.start("prod")
    control_plane.start()
    plane = Plane(control, hub)
    deploy(plane, 2.0, tier="prod")
    wait_until(lambda: plane.endpoint("credit")["rollout"]["message"], 30, "it proves nothing")
    control_plane.kill()
    assert tritons.client("prod").index() == {}
    control_plane.start()
    plane.wait_for("credit", "waiting_approval", timeout_s=60)
    control_plane.kill()
    control_plane.start()
    waiting = plane.wait_for("credit", "waiting_approval")
    assert tritons.client("prod").index() == {}
    tritons.hold("prod")  # so that the kill finds it loading
    page = browser.open(waiting["rollout"]["review_url"], "reviewer")
    assert browser.decide(page, "approve").status_code == 200
    wait_until(lambda: "loads credit@1" in plane.endpoint("credit")["rollout"]["message"], 30, "it loads nothing")
    control_plane.kill()
    tritons.go_on("prod")
    control_plane.start()
    plane.wait_for("credit", "done", timeout_s=60)
    proofs = ["rollout.proved", "rollout.review", "rollout.approve", "rollout.done"]
    assert told(plane, "credit@1") == ["rollout.open", *proofs]
