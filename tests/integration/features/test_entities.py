"""Predictions by entity key: through the transformer to a real Triton, over both wires."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tests.integration.features.conftest import Bench
from tests.integration.features.late import RELEASE, SIGNATURE, grpc_inputs, http_inputs, model
from tritonclient.utils import InferenceServerException

import themisto
from themisto.features.on_demand import OnDemand
from themisto.serving.models import ServingConfig
from themisto_hub.gateway.feature_table import TABLE, FeatureRelease, FeatureTable, write_table
from themisto_hub.model_server.repository import files, model_config


@pytest.fixture
def headers(entities) -> dict[str, str]:
    token = entities._control.gateway_token()
    return {"authorization": f"Bearer {token}", "x-release": RELEASE}


@pytest.mark.parametrize("binary", [True, False])
def test_http_client_asks_by_key(bench: Bench, headers, binary: bool) -> None:
    with triton_http.InferenceServerClient(bench.url.removeprefix("http://")) as client:
        outputs = [triton_http.InferRequestedOutput(n, binary_data=binary) for n in ("sum", "at_gate")]
        answer = client.infer(
            "late", http_inputs(["JFK", "LGA", "JFK"], binary=binary), outputs=outputs, headers=headers
        )
    assert answer.as_numpy("sum").ravel().tolist() == [101.0, 102.0, 101.0]
    assert [str(v, "utf8") if isinstance(v, bytes) else v for v in answer.as_numpy("at_gate").ravel()] == [
        "A",
        "B",
        "A",
    ]


def test_plain_json_names_release_service_and_age(bench: Bench, headers) -> None:
    body = {
        "id": "42",
        "inputs": [
            {"name": "origin", "datatype": "BYTES", "shape": [1, 1], "data": ["JFK"]},
            {"name": "distance", "datatype": "FP64", "shape": [1, 1], "data": [0.5]},
        ],
    }
    answer = httpx.post(f"{bench.url}/v2/models/late/infer", json=body, headers=headers)
    assert answer.json()["id"] == "42"
    assert {o["name"]: o["data"] for o in answer.json()["outputs"]} == {"sum": [1.5], "at_gate": ["A"]}
    assert answer.headers["x-release"] == "late@7"
    assert answer.headers["x-feature-service"] == "delay@1"
    assert float(answer.headers["x-feature-age-s"]) > 300_000_000


@pytest.fixture
def planned(bench: Bench, entities) -> Iterator[None]:
    """The release fed by a service that computes one of the model's inputs of what the request brings."""
    far = OnDemand("distance", "temp * 60 + minutes", request={"minutes": "float64"})
    entities.apply(themisto.FeatureService("planned", features=["weather"], on_demand=[far]))
    before = FeatureTable.model_validate_json((bench.settings.xds / TABLE).read_text())
    release = before.releases[RELEASE].model_copy(update={"feature_service": "planned@1"})
    write_table(FeatureTable(releases={RELEASE: release}), bench.settings.xds)
    time.sleep(0.6)  # the transformer looks four times a second
    yield
    write_table(before, bench.settings.xds)
    time.sleep(0.6)


def minutes(name: str, client) -> list:
    key = client.InferInput("origin", [2, 1], "BYTES")
    key.set_data_from_numpy(np.array([["JFK"], ["LGA"]], dtype=object))
    brought = client.InferInput(name, [2, 1], "FP64")
    brought.set_data_from_numpy(np.array([[1.0], [2.0]]))
    return [key, brought]


@pytest.mark.usefixtures("planned")
def test_on_demand_feature_is_computed_of_the_request(bench: Bench, headers) -> None:
    with triton_http.InferenceServerClient(bench.url.removeprefix("http://")) as client:
        answer = client.infer("late", minutes("minutes", triton_http), headers=dict(headers))  # it adds to them
        assert answer.as_numpy("sum").ravel().tolist() == [62.0, 124.0]  # temp + (temp * 60 + minutes)
        with pytest.raises(InferenceServerException, match="no input minutes"):
            client.infer("late", minutes("seconds", triton_http), headers=dict(headers))
    url = f"127.0.0.1:{bench.settings.ports.transformer_grpc}"
    with triton_grpc.InferenceServerClient(url) as client:
        answer = client.infer("late", minutes("minutes", triton_grpc), headers=headers)
        assert answer.as_numpy("sum").ravel().tolist() == [62.0, 124.0]


def test_grpc_client_asks_by_key(bench: Bench, headers) -> None:
    url = f"127.0.0.1:{bench.settings.ports.transformer_grpc}"
    with triton_grpc.InferenceServerClient(url) as client:
        answer = client.infer("late", grpc_inputs(["LGA", "JFK"]), headers=headers)
    assert answer.as_numpy("sum").ravel().tolist() == [102.0, 101.0]
    assert answer.as_numpy("at_gate").ravel().tolist() == [b"B", b"A"]


def test_null_travels_as_nan(bench: Bench, headers) -> None:
    with triton_http.InferenceServerClient(bench.url.removeprefix("http://")) as client:
        answer = client.infer("late", http_inputs(["EWR"], binary=True), headers=headers)
    assert np.isnan(answer.as_numpy("sum")).all()


def test_unknown_entity_is_a_404_of_the_protocol(bench: Bench, headers) -> None:
    body = {"inputs": [{"name": "origin", "datatype": "BYTES", "shape": [1], "data": ["XXX"]}]}
    answer = httpx.post(f"{bench.url}/v2/models/late/infer", json=body, headers=headers)
    assert answer.status_code == 404
    assert "no features of origin=XXX" in answer.json()["error"]
    url = f"127.0.0.1:{bench.settings.ports.transformer_grpc}"
    unknown = pytest.raises(triton_grpc.InferenceServerException, match="no features of origin=XXX")
    with triton_grpc.InferenceServerClient(url) as client, unknown as caught:
        client.infer("late", grpc_inputs(["JFK", "XXX"]), headers=headers)
    assert "NOT_FOUND" in str(caught.value.status())


def test_missing_null_policy_sends_null(bench: Bench, entities, headers) -> None:
    entities.apply(themisto.FeatureService("delay", features=["weather"], on_missing="null"))
    http, grpc, _ = bench.settings.ports.triton["dev"]
    old = FeatureRelease(
        endpoint="late",
        group="data-science",
        feature_service="delay@1",
        http=f"127.0.0.1:{http}",
        grpc=f"127.0.0.1:{grpc}",
    )
    new = old.model_copy(update={"feature_service": "delay@2"})
    write_table(FeatureTable(releases={RELEASE: new}), bench.settings.xds)
    time.sleep(0.6)
    try:
        with triton_http.InferenceServerClient(bench.url.removeprefix("http://")) as client:
            answer = client.infer("late", http_inputs(["XXX"], binary=True), headers=headers)
        assert np.isnan(answer.as_numpy("sum")).all()
        assert answer.as_numpy("at_gate").ravel().tolist() == [b""]
    finally:
        write_table(FeatureTable(releases={RELEASE: old}), bench.settings.xds)
        time.sleep(0.6)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"x-release": "late--8"}, 404),
        ({"x-release": ""}, 404),
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer a.b.c"}, 401),
        ({"inference-header-content-length": "x"}, 400),
    ],
)
def test_wrong_requests_are_told_in_the_protocols_shape(bench: Bench, headers, change, status: int) -> None:
    body = {"inputs": [{"name": "origin", "datatype": "BYTES", "shape": [1], "data": ["JFK"]}]}
    answer = httpx.post(f"{bench.url}/v2/models/late/infer", json=body, headers=headers | change)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"inputs": 1}', b'{"inputs": [{"data": [1]}]}'])
def test_broken_bodies_are_400(bench: Bench, headers, content: bytes) -> None:
    answer = httpx.post(f"{bench.url}/v2/models/late/infer", content=content, headers=headers)
    assert answer.status_code == 400


def test_model_input_that_is_no_feature_is_named(bench: Bench, headers) -> None:
    body = {"inputs": [{"name": "origin", "datatype": "BYTES", "shape": [1], "data": ["JFK"]}]}
    answer = httpx.post(f"{bench.url}/v2/models/late/infer", json=body, headers=headers)
    assert answer.status_code == 400
    assert "also needs distance" in answer.json()["error"]


def test_other_groups_may_not_call_it(bench: Bench, headers) -> None:
    stranger = bench.plane("stranger", ["elsewhere"])
    body = {"inputs": [{"name": "origin", "datatype": "BYTES", "shape": [1], "data": ["JFK"]}]}
    theirs = headers | {"authorization": f"Bearer {stranger.gateway_token()}"}
    answer = httpx.post(f"{bench.url}/v2/models/late/infer", json=body, headers=theirs)
    assert answer.status_code == 403
    url = f"127.0.0.1:{bench.settings.ports.transformer_grpc}"
    refused = pytest.raises(triton_grpc.InferenceServerException, match="may not call 'late'")
    with triton_grpc.InferenceServerClient(url) as client, refused:
        client.infer("late", grpc_inputs(["JFK"]), headers=theirs)


def test_triton_that_is_gone_is_503(bench: Bench, headers, triton) -> None:
    triton.unload(RELEASE)
    body = {
        "inputs": [
            {"name": "origin", "datatype": "BYTES", "shape": [1, 1], "data": ["JFK"]},
            {"name": "distance", "datatype": "FP64", "shape": [1, 1], "data": [0.5]},
        ]
    }
    answer = httpx.post(f"{bench.url}/v2/models/late/infer", json=body, headers=headers)
    assert answer.status_code >= 400
    assert "error" in answer.json()
    triton.load(RELEASE, model_config(RELEASE, "onnx", SIGNATURE, ServingConfig()), files("onnx", model()))
    assert httpx.post(f"{bench.url}/v2/models/late/infer", json=body, headers=headers).status_code == 200
