"""The real control plane over HTTP, with a real database, something in it, and three kinds of caller."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from tests.fakes.hub_identity import HubIdentity

from themisto.serving.models import Artifact, Column, Golden, ReleaseRequest, Signature
from themisto_hub.control.app import PREFIX, create_app
from themisto_hub.control.context import Control
from themisto_hub.control.hub import HubClient
from themisto_hub.settings import Deployment, Keys

SCOPES = ("approve", "audit", "admin", "deploy", "features:read", "features:write", "infer", "schedule")
MODEL = b"bytes that nothing loads here"
MEMBER, STRANGER, NOBODY = {"Authorization": "token token-of-scientist"}, {"Authorization": "token token-of-x"}, {}


class Plane:
    """A control plane without its workers; `seed` are the names of what is in it."""

    def __init__(self, control: Control, url: str) -> None:
        self.control = control
        self.url = url
        self.http = httpx.Client(base_url=f"{url}{PREFIX}/api/v1", headers=MEMBER, timeout=20)
        self.seed: dict[str, str] = {}

    def release(self, **change: Any) -> dict[str, Any]:
        """A release that is accepted, as its author would post it; `change` what is not."""
        digest = hashlib.sha256(MODEL).hexdigest()
        content: dict[str, Any] = {
            "group": "data-science",
            "artifact": Artifact(kind="onnx", sha256=digest, size_bytes=len(MODEL)),
            "signature": Signature(inputs=(Column(name="x", dtype="FP32"),), outputs=(Column(name="y", dtype="FP32"),)),
            "golden": Golden(inputs={"x": [1.0]}, outputs={"y": [2.0]}),
        }
        return ReleaseRequest.model_validate(content).model_dump(mode="json") | change

    def fill(self) -> None:
        """An endpoint with a release on its way, features and a schedule."""
        digest = hashlib.sha256(MODEL).hexdigest()
        entity = {"name": "person", "keys": ["who"]}
        columns = {"keys": [{"name": "who", "dtype": "int64"}], "features": [{"name": "age", "dtype": "int64"}]}
        self._put(f"/artifacts/{digest}", content=MODEL)
        self._put(f"/schedules/snapshots/{digest}", content=MODEL)
        self._put("/features/entities/person", json=entity)
        self._put("/features/views/credit", json={"name": "credit", "entity": entity, "at": "at", **columns})
        self._put("/features/services/credit", json={"name": "credit", "features": ["credit:age"]})
        made = self.http.post("/endpoints/credit/releases", json=self.release())
        assert made.status_code == 201, made.text
        rollout = self.http.get("/endpoints/credit").json()["rollout"]["id"]
        self.seed = {"name": "credit", "ref": "credit", "rollout": rollout, "sha256": digest, "number": "1"}

    def _put(self, path: str, **body: Any) -> None:
        answer = self.http.put(path, **body)
        assert answer.is_success, f"{path}: {answer.text}"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory, free_base: Any) -> Iterator[Plane]:
    settings = Deployment(state=tmp_path_factory.mktemp("state"), port=free_base())
    settings.folder("control").mkdir()
    keys = Keys(operator=SecretStr("operator's key"), artifacts=SecretStr("artifacts' key"))
    with HubIdentity() as hub:
        hub.add("scientist", ["data-science"], scopes=[f"custom:themisto:{scope}" for scope in SCOPES])
        hub.add("x", ["strangers"], scopes=["custom:themisto:infer"])
        control = Control(settings, keys, hub=HubClient(hub.api_url, "token-of-control"))
        config = uvicorn.Config(create_app(control, workers=()), port=settings.ports.control, log_level="critical")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        plane = Plane(control, f"http://127.0.0.1:{settings.ports.control}")
        plane.fill()
        yield plane
        plane.http.close()
        server.should_exit = True
        thread.join(10)
