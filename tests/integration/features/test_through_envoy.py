"""The whole way of a request by entity key: Envoy, transformer, Triton; and of a kernel's feature read."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tests.integration.features.conftest import Bench, answers, wait_until
from tests.integration.features.late import SIGNATURE, grpc_inputs, http_inputs, model

from themisto.errors import Refused
from themisto.serving.models import ServingConfig
from themisto_hub.gateway.fallback import StandIn
from themisto_hub.gateway.feature_table import TABLE
from themisto_hub.gateway.put import put
from themisto_hub.gateway.routes import FILES, Route, RouteTable, Target, write
from themisto_hub.model_server.infer_key import infer_keys
from themisto_hub.model_server.repository import files, model_config


@pytest.fixture(scope="module")
def gateway(bench: Bench, entities, triton):
    """Envoy before it all: `late`, 80 % at release 7, 20 % at release 8. Returns its HTTP address."""
    triton.load("late--8", model_config("late--8", "onnx", SIGNATURE, ServingConfig()), files("onnx", model()))
    ports = bench.settings.ports
    http, grpc, _ = ports.triton["dev"]
    releases = tuple(
        Target(release=f"late--{n}", weight_pct=w, http=f"127.0.0.1:{http}", grpc=f"127.0.0.1:{grpc}")
        for n, w in ((7, 80), (8, 20))
    )
    write(table_of(bench, *releases), bench.settings.xds)
    environment = os.environ | {"THEMISTO_STATE": str(bench.state), "THEMISTO_PORT": str(bench.settings.port)}
    (bench.state / "gateway").mkdir()
    command = [sys.executable, "-m", "themisto_hub.gateway", "envoy"]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{ports.envoy_admin}/ready"), "Envoy")
        wait_until(lambda: answers(f"{bench.settings.gateway_http}/v2/health/ready"), "Envoy's routes")
        yield bench.settings.gateway_http.removeprefix("http://")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def table_of(bench: Bench, *releases: Target) -> RouteTable:
    ports, signer = bench.settings.ports, bench.control.signer
    late = Route(
        name="late",
        group="data-science",
        tier="dev",
        feature_service="delay@1",
        feature_names=("temp", "gate"),
        keys=("origin",),
        releases=releases,
    )
    return RouteTable(
        endpoints=(late,),
        jwks=signer.jwks,
        issuers=(signer.issuer,),
        transformer_http=f"127.0.0.1:{ports.transformer_http}",
        transformer_grpc=f"127.0.0.1:{ports.transformer_grpc}",
        infer_keys=infer_keys(bench.settings, bench.keys),
    )


@pytest.fixture
def token(entities) -> dict[str, str]:
    return {"authorization": f"Bearer {entities._control.gateway_token()}"}


def test_keys_alone_are_enough_over_http_and_the_split_holds(gateway: str, token) -> None:
    seen: collections.Counter[str] = collections.Counter()
    with triton_http.InferenceServerClient(gateway) as client:
        for n in range(100):
            answer = client.infer("late", http_inputs(["JFK"], binary=True), headers=token | {"themisto-key": f"p{n}"})
            assert answer.as_numpy("sum").ravel().tolist() == [101.0]
            seen[answer.get_response()["model_name"]] += 1
    assert set(seen) == {"late--7", "late--8"}
    assert 5 <= seen["late--8"] <= 40


def test_keys_alone_are_enough_over_grpc(bench: Bench, gateway: str, token) -> None:
    with triton_grpc.InferenceServerClient(bench.settings.gateway_grpc) as client:
        answer = client.infer("late", grpc_inputs(["LGA", "JFK"]), headers=token | {"themisto-key": "one"})
    assert answer.as_numpy("sum").ravel().tolist() == [102.0, 101.0]


def test_answer_names_release_service_and_age(gateway: str, token) -> None:
    body = {
        "inputs": [
            {"name": "origin", "datatype": "BYTES", "shape": [1, 1], "data": ["JFK"]},
            {"name": "distance", "datatype": "FP64", "shape": [1, 1], "data": [0.5]},
        ]
    }
    answer = httpx.post(f"http://{gateway}/v2/models/late/infer", json=body, headers=token)
    assert answer.headers["x-release"] in ("late@7", "late@8")
    assert answer.headers["x-feature-service"] == "delay@1"
    assert float(answer.headers["x-feature-age-s"]) > 0


def test_full_requests_go_past_the_transformer(bench: Bench, gateway: str, token) -> None:
    inputs = [
        triton_http.InferInput("temp", [1, 1], "FP32"),
        triton_http.InferInput("gate", [1, 1], "BYTES"),
        triton_http.InferInput("distance", [1, 1], "FP64"),
    ]
    values = (np.float32([[5]]), np.array([["Z"]], dtype=object), np.float64([[1]]))
    for tensor, value in zip(inputs, values, strict=True):
        tensor.set_data_from_numpy(value)
    bench.stop_transformer()
    try:
        with triton_http.InferenceServerClient(gateway) as client:
            assert client.infer("late", inputs, headers=token).as_numpy("sum").ravel().tolist() == [6.0]
    finally:
        bench.start_transformer()


def test_earlier_release_answers_keys_alone_for_one_that_is_not_there(bench: Bench, gateway: str, token) -> None:
    """The transformer is asked once more, with the name of the other release; both wires say who answered."""
    http, grpc, _ = bench.settings.ports.triton["dev"]
    place = {"http": f"127.0.0.1:{http}", "grpc": f"127.0.0.1:{grpc}"}
    earlier = StandIn(kind="earlier", release="late--7", **place)
    absent = Target(release="late--9", weight_pct=100, fallbacks=(earlier,), **place)
    before = {name: (bench.settings.xds / name).read_text() for name in (*FILES, TABLE)}
    write(table_of(bench, absent), bench.settings.xds)
    try:
        wait_until(lambda: asked(gateway, token).headers.get("x-fallback") == "earlier", "the earlier release")
        answer = asked(gateway, token)
        assert (answer.status_code, answer.headers["x-release"]) == (200, "late@7")
        assert float(answer.headers["x-feature-age-s"]) > 0
        with triton_grpc.InferenceServerClient(bench.settings.gateway_grpc) as client:
            result = client.infer("late", grpc_inputs(["LGA", "JFK"]), headers=token)
        assert result.as_numpy("sum").ravel().tolist() == [102.0, 101.0]
        assert result.get_response().model_name == "late--7"
    finally:
        for name, text in before.items():
            put(bench.settings.xds / name, text)
        wait_until(lambda: asked(gateway, token).headers.get("x-fallback") is None, "the routes of before")


def asked(gateway: str, token) -> httpx.Response:
    body = {
        "inputs": [
            {"name": "origin", "datatype": "BYTES", "shape": [1, 1], "data": ["JFK"]},
            {"name": "distance", "datatype": "FP64", "shape": [1, 1], "data": [0.5]},
        ]
    }
    return httpx.post(f"http://{gateway}/v2/models/late/infer", json=body, headers=token, timeout=20)


def test_kernel_reads_through_the_gateway(bench: Bench, gateway: str) -> None:
    features = bench.features("scientist", ["data-science"])
    del features._control.__dict__["discovery"]
    assert features._control.discovery.gateway.http == f"http://{gateway}"
    assert features.get("delay@1", origin=["LGA", "XXX"])["temp"].fillna(-1).tolist() == [2.0, -1]
    predictor = bench.features("predictor", ["data-science"], ["custom:themisto:infer"])
    del predictor._control.__dict__["discovery"]
    with pytest.raises(Refused):
        predictor.registry.read("delay@1", [{"origin": "LGA"}])
