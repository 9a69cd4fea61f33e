"""How requests are shared between releases."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tests.integration.gateway.parts import INFER_KEY

from themisto_hub.model_server.infer_key import INFER_HEADER


def share(gateway, requests: int, key: str = "") -> float:
    headers = gateway.headers()
    answers = [
        gateway.infer("credit", headers=headers, **({"themisto-key": key.format(i)} if key else {}))
        for i in range(requests)
    ]
    assert all(a.status_code == 200 for a in answers)
    return sum(a.headers["x-release"] == "credit@2" for a in answers) / requests


def canary(gateway, weight_pct: int) -> None:
    gateway.publish(
        gateway.route("credit", gateway.target("credit", 1, 100 - weight_pct), gateway.target("credit", 2, weight_pct))
    )


def test_canary_of_five_percent_gets_five_percent(credit):
    canary(credit, 5)
    assert share(credit, 3000, "customer-{}") == pytest.approx(0.05, abs=0.015)
    assert share(credit, 1000) == pytest.approx(0.05, abs=0.025)


def test_one_key_always_gets_one_release(credit):
    canary(credit, 50)
    assert share(credit, 50, "customer-7") in (0.0, 1.0)
    assert 0.3 < share(credit, 200, "customer-{}") < 0.7


def test_answer_and_header_name_the_same_release(credit):
    canary(credit, 50)
    headers = credit.headers()
    for number in range(40):
        answer = credit.infer("credit", headers=headers, **{"themisto-key": str(number)})
        release = int(answer.headers["x-release"].rpartition("@")[2])
        assert answer.json()["outputs"][0]["data"] == [1.0 + release]


def test_who_asks_once_the_table_is_written_is_answered_by_it(credit):
    headers = credit.headers()
    for number in (1, 2) * 10:
        credit.publish(credit.route("credit", credit.target("credit", number, 100)), settle=False)
        assert credit.infer("credit", headers=headers).headers["x-release"] == f"credit@{number}"


def test_weights_change_under_load_without_an_error(credit):
    canary(credit, 0)
    failed, asked, stop = [], [], threading.Event()

    def ask() -> None:
        headers = credit.headers()
        while not stop.is_set():
            answer = credit.infer("credit", headers=headers)
            asked.append(answer.headers.get("x-release"))
            if answer.status_code != 200:
                failed.append(answer.text)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for step in range(30):
            releases = [credit.target("credit", 1, 100 - step), credit.target("credit", 2, step)]
            if step % 2:  # a release that comes and goes
                releases.append(credit.target("credit", 3 + step, 0))
            credit.publish(credit.route("credit", *releases), settle=False)
            stop.wait(0.03)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert not failed, failed[:3]
    assert len(asked) > 200


def test_shadow_gets_copies_and_nobody_waits_for_it(credit):
    credit.publish(credit.route("credit", credit.target("credit", 1, 100), credit.target("credit", 2, 0, shadow=True)))
    before = counted(credit)
    headers = credit.headers()
    for _ in range(20):
        assert credit.infer("credit", headers=headers).headers["x-release"] == "credit@1"
    deadline = threading.Event()
    for _ in range(50):
        if counted(credit) - before == 20:
            break
        deadline.wait(0.05)
    assert counted(credit) - before == 20


def counted(gateway) -> int:
    url = f"http://{gateway.http_address}/v2/models/credit--2/stats"
    stats = gateway.http.get(url, headers={INFER_HEADER: INFER_KEY}).json()
    return int(stats["model_stats"][0]["inference_stats"]["success"]["count"])


def test_plain_tritonclient_works_over_http(credit):
    with tritonclient.http.InferenceServerClient(credit.url.removeprefix("http://")) as client:
        headers = credit.headers()
        assert client.is_server_ready(headers=headers)
        assert client.is_model_ready("credit", headers=headers)
        assert client.get_model_metadata("credit", headers=headers)["inputs"][0]["name"] == "x"
        tensor = tritonclient.http.InferInput("x", [2, 1], "FP32")
        tensor.set_data_from_numpy(np.array([[1], [2]], np.float32))  # binary
        result = client.infer("credit", [tensor], headers=headers)
        assert result.as_numpy("y").tolist() == [[2.0], [3.0]]
        result = client.infer("credit", [tensor], model_version="1", headers=headers)
        assert result.as_numpy("y").tolist() == [[2.0], [3.0]]


def test_plain_tritonclient_works_over_grpc_and_names_the_release(credit):
    with tritonclient.grpc.InferenceServerClient(credit.settings.gateway_grpc) as client:
        headers = credit.headers()
        assert client.is_server_live()
        assert client.is_model_ready("credit", headers=headers)
        assert client.get_model_metadata("credit", headers=headers).inputs[0].name == "x"
        tensor = tritonclient.grpc.InferInput("x", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.array([[1]], np.float32))
        assert client.infer("credit", [tensor], headers=headers).as_numpy("y").tolist() == [[2.0]]


def test_grpc_metadata_names_the_release(credit):
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name="credit")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(1.0)
    with grpc.insecure_channel(credit.settings.gateway_grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        metadata = (("authorization", credit.headers()["authorization"]),)
        _, call = stub.ModelInfer.with_call(request, metadata=metadata, timeout=5)
        assert dict(call.initial_metadata())["x-release"] == "credit@1"
        for bad, code in (
            (service_pb2.ModelInferRequest(model_name="other"), grpc.StatusCode.UNIMPLEMENTED),
            (request, grpc.StatusCode.UNAUTHENTICATED),
        ):
            with pytest.raises(grpc.RpcError) as error:
                stub.ModelInfer(bad, metadata=metadata if bad is not request else None, timeout=5)
            assert error.value.code() == code
            assert error.value.details()


def test_grpc_split_is_sticky_and_whole(credit):
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    canary(credit, 30)
    request = service_pb2.ModelInferRequest(model_name="credit")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(1.0)
    with grpc.insecure_channel(credit.settings.gateway_grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        token = ("authorization", credit.headers()["authorization"])
        seen = []
        for i in range(300):
            answer, call = stub.ModelInfer.with_call(
                request, metadata=(token, ("themisto-key", f"customer-{i}")), timeout=5
            )
            release = dict(call.initial_metadata())["x-release"]
            assert answer.model_name == release.replace("@", "--")
            seen.append(release)
    assert seen.count("credit@2") / 300 == pytest.approx(0.3, abs=0.1)
