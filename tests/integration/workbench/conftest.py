"""An endpoint that answers, deployed once from the scientist's kernel; and ways to take services down."""

import os
import signal
import time
from contextlib import contextmanager

import httpx
import psutil
import pytest

from themisto_hub.supervisor.watch import MARK

DEPLOY = """%%deploy probe --sample X --replace
model
"""
MODEL = """
import time
import numpy as np, pandas as pd, lightgbm as lgb, themisto
rng = np.random.default_rng(7)
X = pd.DataFrame({"a": rng.normal(size=200), "b": rng.normal(size=200)})
y = (X.a + X.b > 0).astype(int)
def trained(trees):
    return lgb.LGBMClassifier(n_estimators=trees, verbose=-1).fit(X, y)
model = trained(5)
"""


def until(check, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.3)
    return False


@pytest.fixture(scope="session")
def say(kernel):
    """What a cell prints; it must not fail."""

    def run(source: str) -> str:
        text, error = kernel(source)
        assert error is None, error
        return text.strip()

    return run


@pytest.fixture(scope="session")
def refused(kernel):
    """What a cell is refused with: one UsageError, short, without a traceback."""

    def run(source: str, *, longest: int = 700) -> str:
        text, error = kernel(source)
        assert error is not None, text
        assert "UsageError: " in error, error
        assert "Traceback" not in text + error
        told = error[error.index("UsageError: ") :]
        assert len(told) < longest, told
        return told

    return run


@pytest.fixture(scope="session")
def ready(say):
    """The kernel holds `X`, `y`, `trained(trees)` and `model`."""
    say(MODEL)


@pytest.fixture(scope="session")
def probe(house, say, ready):
    """Ask the endpoint `probe` once, outside the kernel: returns the HTTP status."""
    say(DEPLOY)
    token = say("from themisto.workbench import workbench; print(workbench().control.gateway_token())")
    columns = [{"name": n, "shape": [1, 1], "datatype": "FP64", "data": [0.5]} for n in ("a", "b")]

    def ask() -> int:
        url = f"{house.settings.gateway_http}/v2/models/probe/infer"
        headers = {"Authorization": f"Bearer {token.splitlines()[-1]}"}
        try:
            return httpx.post(url, json={"inputs": columns}, headers=headers, timeout=5, trust_env=False).status_code
        except httpx.TransportError:
            return 0

    assert until(lambda: ask() == 200, 20)
    return ask


class Services:
    """The processes of one workbench, by the supervisor's names for them."""

    def __init__(self, house):
        ports, public = house.settings.ports, house.settings.public
        self._state = house.state
        local = "http://127.0.0.1"
        self._known = {
            "idp": (["server.mjs"], f"{house.settings.issuer}/.well-known/openid-configuration"),
            "proxy": (["configurable-http-proxy"], f"{public}/hub/health"),
            "hub": (["jupyterhub", "-f"], f"{public}/hub/health"),
            "tracking": (["themisto_hub.tracking_server"], f"{public}/services/tracking/health"),
            "control": (["themisto_hub.control"], f"{public}/services/themisto/healthz"),
            "transformer": (["themisto_hub.gateway transformer"], f"{local}:{ports.transformer_http}/healthz"),
            "envoy": (["envoy", "-c"], f"{local}:{ports.envoy_admin}/ready"),
            "predictions": (["themisto_hub.gateway log"], None),
            "pool": (["themisto_hub.model_server pool"], None),
            "triton-dev": (
                ["tritonserver", str(ports.triton["dev"][0])],
                f"{local}:{ports.triton['dev'][0]}/v2/health/ready",
            ),
            "triton-prod": (
                ["tritonserver", str(ports.triton["prod"][0])],
                f"{local}:{ports.triton['prod'][0]}/v2/health/ready",
            ),
        }

    def process(self, name):
        """The process the supervisor started under that name, or None."""
        for process in psutil.process_iter():
            try:
                mine = process.environ().get(MARK) == str(self._state) and process.status() != psutil.STATUS_ZOMBIE
                # The supervisor starts each at the head of a group of its own.
                if mine and os.getpgid(process.pid) == process.pid:
                    line = " ".join(process.cmdline())
                    if all(word in line for word in self._known[name][0]):
                        return process
            except (psutil.Error, ProcessLookupError):
                continue
        return None

    def kill(self, name):
        """kill -9; returns the process's id."""
        process = self.process(name)
        assert process is not None, f"no process {name}"
        os.kill(process.pid, signal.SIGKILL)
        return process.pid

    def answers(self, name):
        url = self._known[name][1]
        try:
            return url is None or httpx.get(url, timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def is_back(self, name, pid):
        """Whether another process than `pid` has taken its place and answers."""
        process = self.process(name)
        return process is not None and process.pid != pid and self.answers(name)

    @contextmanager
    def down(self, name):
        """Killed, and not started again until the end: the supervisor is held meanwhile."""
        supervisor = psutil.Process(int((self._state / "supervisor.lock").read_text()))
        process = self.process(name)
        assert process is not None, f"no process {name}"
        supervisor.suspend()
        try:
            os.killpg(process.pid, signal.SIGKILL)
            assert until(lambda: self.process(name) is None, 10)
            yield
        finally:
            supervisor.resume()
            assert until(lambda: self.is_back(name, process.pid)), f"{name} did not come back"


@pytest.fixture(scope="session")
def services(house):
    return Services(house)
