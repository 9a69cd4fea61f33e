"""What a pod does, done here: fetch by digest, then a real Triton with the container's own flags."""

from __future__ import annotations

import hashlib
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.integration.gateway.parts import SIGNATURE, adder
from tests.unit.cluster.plans import PROFILES, placed, plan, release, settings

from themisto.errors import Failed
from themisto.serving.models import Artifact
from themisto_hub.cluster.container import flags
from themisto_hub.cluster.pull import lay_out
from themisto_hub.cluster.servers import servers
from themisto_hub.cluster.store import Bucket, artifact_path
from themisto_hub.model_server.server import KEY_HEADER, Server, environment_folder

KEY = "load-key"
MODELS = {7: adder(7), 8: adder(8)}


def fetches(*, own: bool):
    """credit@7 and credit@8, which add 7 and 8."""
    made = {
        number: release(
            number,
            signature=SIGNATURE,
            artifact=Artifact(kind="onnx", sha256=hashlib.sha256(model).hexdigest(), size_bytes=len(model)),
        )
        for number, model in MODELS.items()
    }
    of = plan("canary", stable=placed(made[7], 95), candidate=placed(made[8], 5), previous=None)
    return servers([of], PROFILES, settings(), own=own)


@pytest.fixture
def bucket(tmp_path) -> str:
    url = (tmp_path / "bucket").as_uri()
    (tmp_path / "bucket").mkdir()
    Bucket(url).put({artifact_path(hashlib.sha256(model).hexdigest()): model for model in MODELS.values()})
    return url


@pytest.fixture
def serve(tmp_path, free_base) -> Iterator:
    running: list[subprocess.Popen] = []

    def start(models: Path) -> str:
        base, folder = free_base(), tmp_path / f"triton{len(running)}"
        folder.mkdir()
        staged = Server(
            name="cluster", folder=folder, http_port=base, grpc_port=base + 1, metrics_port=base + 2, key=KEY,
            python=environment_folder(),
        )  # fmt: skip
        staged.prepare()
        binary, *container = flags(str(models), http=base, grpc=base + 1)
        assert binary == "tritonserver"
        # A pod has ports of its own; here others answer on 8002 already.
        asked = [one.replace("$(MODEL_KEY)", KEY) for one in container if not one.startswith("--metrics-port")]
        here = [f"--backend-directory={folder / 'backends'}", f"--metrics-port={base + 2}", "--allow-gpu-metrics=false"]
        addresses = [f"--{what}-address=127.0.0.1" for what in ("http", "grpc", "metrics")]
        command = [staged.command[0], *asked, *here, *addresses]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, cwd=folder, env=staged.environment, stdout=log, stderr=log)
        running.append(process)
        return f"http://127.0.0.1:{base}"

    yield start
    for process in running:
        process.kill()
        process.wait(10)


def wait(url: str, status: int = 200) -> int:
    """What /v2/health/ready says once Triton is up and no longer loads."""
    for _ in range(300):
        try:
            httpx.get(f"{url}/v2/health/live", timeout=2)
            said = httpx.get(f"{url}/v2/health/ready", timeout=2).status_code
        except httpx.TransportError:
            said = 0
        if said == status:
            return said
        time.sleep(0.1)
    return said


def ask(url: str, model: str) -> dict:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}
    response = httpx.post(f"{url}/v2/models/{model}/infer", json=body, timeout=10)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_shared_triton_holds_every_release_under_its_own_name(tmp_path, bucket, serve):
    (server,) = fetches(own=False)
    lay_out(server.fetches, tmp_path / "models", bucket, "")
    url = serve(tmp_path / "models")
    assert wait(url) == 200
    assert ask(url, "credit--7")["outputs"][0]["data"] == [8.0]
    assert ask(url, "credit--8")["outputs"][0]["data"] == [9.0]


def test_a_release_of_its_own_answers_to_the_endpoint_and_names_itself(tmp_path, bucket, serve):
    _, eight = fetches(own=True)
    lay_out(eight.fetches, tmp_path / "models", bucket, "")
    url = serve(tmp_path / "models")
    assert wait(url) == 200
    answer = ask(url, "credit")
    assert (answer["outputs"][0]["data"], answer["model_version"]) == ([9.0], "8")


def test_load_api_is_closed_without_its_key(tmp_path, bucket, serve):
    (server,) = fetches(own=False)
    lay_out(server.fetches, tmp_path / "models", bucket, "")
    url = serve(tmp_path / "models")
    assert wait(url) == 200
    assert httpx.post(f"{url}/v2/repository/index", json={}).status_code == 403
    assert httpx.post(f"{url}/v2/repository/index", json={}, headers={KEY_HEADER: KEY}).status_code == 200


def test_a_pod_whose_model_does_not_load_never_gets_ready(tmp_path, bucket, serve):
    (server,) = fetches(own=False)
    models = tmp_path / "models"
    lay_out(server.fetches, models, bucket, "")
    (models / "credit--8" / "1" / "model.onnx").write_bytes(b"nothing")
    url = serve(models)
    assert wait(url, 400) == 400
    assert httpx.get(f"{url}/v2/health/live").status_code == 200
    assert ask(url, "credit--7")["outputs"][0]["data"] == [8.0]


def test_bytes_that_are_not_the_artifact_never_lie_where_triton_looks(tmp_path, bucket):
    (server,) = fetches(own=False)
    digest = server.fetches.models[0].artifact.sha256
    stored = tmp_path / "bucket" / artifact_path(digest)
    stored.write_bytes(bytes(reversed(stored.read_bytes())))
    with pytest.raises(Failed, match=digest[:12]):
        lay_out(server.fetches, tmp_path / "models", bucket, "")
    assert not list((tmp_path / "models").rglob("model.onnx"))
    assert not list((tmp_path / "models").rglob("*.part"))


def test_triton_has_the_series_that_scaling_reads(tmp_path, bucket, serve):
    (server,) = fetches(own=False)
    lay_out(server.fetches, tmp_path / "models", bucket, "")
    url = serve(tmp_path / "models")
    assert wait(url) == 200
    ask(url, "credit--7")
    host, _, port = url.rpartition(":")
    told = httpx.get(f"{host}:{int(port) + 2}/metrics", timeout=5).text
    docs = (Path(__file__).resolve().parents[3] / "docs" / "cluster-serving.md").read_text()
    series = set(re.findall(r"nv_inference_\w+", docs))
    assert len(series) == 2
    for one in series:
        assert f'{one}{{model="credit--7"' in told
