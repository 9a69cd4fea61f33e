"""A real tracking server behind a stand-in for the hub's identities, for the whole session."""

import os
import signal
import subprocess
import sys
import time

import httpx
import pytest
from pydantic import SecretStr
from tests.fakes.hub_identity import HubIdentity
from tests.unit.tracking.mlflow_state import mlflow_forgets

from themisto.client import ControlPlane, Discovery, GatewayAddress
from themisto.settings import Settings
from themisto.tracking.service import Tracking

PEOPLE = {
    "scientist": ["data-science"],
    "colleague": ["data-science"],
    "reviewer": ["model-risk"],
    "admin": ["platform-admins"],
    "visitor": [],
}


class TrackingServer:
    """The process `python -m themisto_hub.tracking_server`; `kill` is kill -9."""

    def __init__(self, state, base, hub, public=None):
        self.hub = hub
        self.port = base + 5
        self.url = f"http://127.0.0.1:{self.port}/services/tracking"
        self._public = public or f"http://127.0.0.1:{self.port}"
        self._state = state
        self._base = base
        self._process = None

    def start(self):
        """Start it unless it runs; returns when it answers."""
        if self._process is not None and self._process.poll() is None:
            return self
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("THEMISTO_", "MLFLOW_"))}
        environment |= {
            "THEMISTO_STATE": str(self._state),
            "THEMISTO_PORT": str(self._base),
            "THEMISTO_PUBLIC_URL": self._public,
            "THEMISTO_KEY_HUB_TRACKING": "secret-of-the-service",
        }
        log = (self._state / "tracking.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "themisto_hub.tracking_server"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError((self._state / "tracking.log").read_text()[-3000:])
            try:
                if httpx.get(f"{self.url}/health", timeout=2).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise RuntimeError("the tracking server did not become ready")

    def kill(self, number=signal.SIGKILL):
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)
            self._process.wait(20)

    def api(self, who, workspace=None, token=None):
        """A plain client with the person's token."""
        headers = {"Authorization": f"Bearer {token or f'token-of-{who}'}"}
        if workspace:
            headers["X-MLFLOW-WORKSPACE"] = workspace
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)


@pytest.fixture(scope="package")
def server(tmp_path_factory, free_base):
    base = free_base()
    with HubIdentity(base + 1) as hub:
        for name, groups in PEOPLE.items():
            hub.add(name, groups)
        server = TrackingServer(tmp_path_factory.mktemp("tracking"), base, hub)
        try:
            yield server.start()
        finally:
            server.kill(signal.SIGTERM)


@pytest.fixture
def tracking_of(server, tmp_path):
    """`tracking_of("scientist")`: the service as that person's kernel has it."""

    def make(who, group=None):
        settings = Settings(
            url="http://127.0.0.1:9/services/themisto",
            token=SecretStr(f"token-of-{who}"),
            group=group or PEOPLE[who][0],
            home=tmp_path / who,
        )
        control = ControlPlane(settings)
        control.__dict__["discovery"] = Discovery(
            version="0",
            gateway=GatewayAddress(http="http://127.0.0.1:9", grpc="127.0.0.1:9"),
            tracking=server.url,
            review="http://localhost:9",
            isolation="none",
            demo=True,
        )
        return Tracking(settings, control)

    with mlflow_forgets():
        yield make
