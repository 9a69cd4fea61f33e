"""Versions of an endpoint through the real gateway: each name reaches its own releases, and metrics know them apart."""

from __future__ import annotations

import re
from importlib import resources

import httpx
import numpy as np
import pytest
import tritonclient.grpc as grpc
from ruamel.yaml import YAML
from tests.integration.gateway.parts import wait_until

from themisto_hub.gateway.callers import count_callers
from themisto_hub.gateway.log import FOLDER


@pytest.fixture
def versions(gateway):
    """credit at release 1; credit.v2 at a release 2 of its own."""
    gateway.load("credit.v2", 2)
    gateway.publish(
        gateway.route("credit", gateway.target("credit", 1, 100)),
        gateway.route("credit.v2", gateway.target("credit.v2", 2, 100)),
    )
    return gateway


def test_each_version_is_answered_by_its_own_release(versions):
    first, second = versions.infer("credit"), versions.infer("credit.v2")
    assert (first.headers["x-release"], first.json()["outputs"][0]["data"]) == ("credit@1", [2.0])
    assert (second.headers["x-release"], second.json()["outputs"][0]["data"]) == ("credit.v2@2", [3.0])


def test_a_version_is_asked_over_grpc(versions):
    client = grpc.InferenceServerClient(versions.settings.gateway_grpc)
    given = grpc.InferInput("x", [1, 1], "FP32")
    given.set_data_from_numpy(np.array([[1.0]], dtype=np.float32))
    answer = client.infer("credit.v2", [given], headers=versions.headers())
    assert answer.as_numpy("y").tolist() == [[3.0]]
    assert answer.get_response().model_name == "credit.v2--2"


def test_the_dot_is_a_dot(versions):
    url = f"{versions.url}/v2/models"
    assert httpx.get(f"{url}/credit.v2/ready", headers=versions.headers()).status_code == 200
    for name in ("creditxv2", "credit.v3", "credit."):
        assert httpx.get(f"{url}/{name}/ready", headers=versions.headers()).status_code == 404, name
        assert versions.infer(name).status_code == 404, name


def test_a_machine_may_call_the_versions_that_its_token_lists(versions):
    headers = versions.headers(groups=None, scopes=None, endpoints=["credit"], sub="app")
    assert versions.infer("credit", headers=headers).status_code == 200
    assert versions.infer("credit.v2", headers=headers).status_code == 403


def test_an_input_that_the_model_does_not_know_is_refused(versions):
    """What makes an input that is gone a break of the contract."""
    tensors = [{"name": n, "shape": [1, 1], "datatype": "FP32", "data": [1.0]} for n in ("x", "more")]
    url = f"{versions.url}/v2/models/credit/infer"
    answer = httpx.post(url, json={"inputs": tensors}, headers=versions.headers())
    assert answer.status_code == 400
    assert "more" in answer.json()["error"]


@pytest.mark.parametrize("datatype", ["FP64", "FP16", "INT32"])
def test_another_datatype_is_refused_wider_or_not(versions, datatype):
    tensor = {"name": "x", "shape": [1, 1], "datatype": datatype, "data": [1]}
    url = f"{versions.url}/v2/models/credit/infer"
    assert httpx.post(url, json={"inputs": [tensor]}, headers=versions.headers()).status_code == 400


def test_the_log_counts_callers_by_version(versions):
    from themisto.types import utcnow

    since = utcnow()
    for endpoint, times in (("credit", 2), ("credit.v2", 3)):
        for _ in range(times):
            versions.infer(endpoint)
    folder = versions.state / "gateway" / FOLDER

    def counted():
        found = count_callers(folder, ["credit", "credit.v2"], since)
        return {(one.caller, one.endpoint, one.answers) for one in found}

    wait_until(lambda: counted() == {("scientist", "credit", 2), ("scientist", "credit.v2", 3)}, "the count")


def test_envoy_and_triton_have_the_metrics_that_alerts_and_docs_name(versions):
    versions.infer("credit.v2")
    ports = versions.settings.ports
    envoy = httpx.get(f"http://127.0.0.1:{ports.envoy_admin}/stats/prometheus", timeout=20).text
    triton = httpx.get(f"http://127.0.0.1:{ports.triton['dev'][2]}/metrics", timeout=20).text
    rules = YAML(typ="safe").load((resources.files("themisto_hub") / "alerts.yaml").read_text())
    asked = {n for rule in rules["groups"][0]["rules"] for n in re.findall(r"\benvoy_\w+", rule["expr"])}
    for name in {n for n in asked if not n.startswith(("envoy_http_conn", "envoy_response"))}:
        assert re.search(rf"^{name}(\{{| )", envoy, re.MULTILINE), name
    assert 'envoy_cluster_name="credit/v2--2"' in envoy
    for name in ("nv_inference_request_success", "nv_inference_queue_duration_us", "nv_inference_exec_count"):
        assert re.search(rf'^{name}\{{model="credit.v2--2"', triton, re.MULTILINE), name
