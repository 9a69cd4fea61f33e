"""What callers see while something is down, and that it heals."""

from __future__ import annotations

import signal
import threading

import grpc
import pytest
from tests.integration.gateway.parts import wait_until
from tritonclient.grpc import service_pb2, service_pb2_grpc


def test_envoy_starts_again_with_the_last_files_and_nobody_to_write_new_ones(credit):
    credit.envoy.stop(signal.SIGKILL)
    credit.envoy.start(credit.envoy_ready)
    assert credit.infer("credit").status_code == 200


def test_a_broken_file_leaves_the_last_good_one_in_force(credit):
    rds = credit.settings.xds / "rds.json"
    good = rds.read_text()
    try:
        draft = rds.with_name("draft")
        draft.write_text("{not json")
        draft.replace(rds)
        threading.Event().wait(0.3)
        assert credit.infer("credit").status_code == 200
    finally:
        rds.write_text(good)
        credit.publish(credit.route("credit", credit.target("credit", 2, 100)))
        credit.publish(credit.route("credit", credit.target("credit", 1, 100)))


def test_triton_killed_is_503_until_it_is_back_and_loaded(credit):
    headers = credit.headers()
    credit.triton.stop(signal.SIGKILL)
    answer = credit.infer("credit", headers=headers)
    assert answer.status_code == 503
    assert "error" in answer.json()
    credit.triton.start(credit.triton_ready)
    # Up, and empty: the endpoint is there, its model not yet. Not the caller's fault, so no 4xx.
    answer = credit.infer("credit", headers=headers)
    assert answer.status_code == 503
    assert "x-absent" not in answer.headers
    request = service_pb2.ModelInferRequest(model_name="credit")
    with grpc.insecure_channel(credit.settings.gateway_grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            stub.ModelInfer(request, metadata=tuple(headers.items()), timeout=10)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    reload(credit)
    wait_until(lambda: credit.infer("credit", headers=headers).status_code == 200, "an answer", 5)


def test_no_prediction_is_lost_while_triton_restarts(credit):
    answers, stop = [], threading.Event()

    def ask() -> None:
        headers = credit.headers()
        while not stop.is_set():
            answers.append(credit.infer("credit", headers=headers).status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        stop.wait(0.3)
        credit.triton.stop(signal.SIGKILL)
        credit.triton.start(credit.triton_ready)
        reload(credit)
        stop.wait(1)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert len(answers) > 100
    assert set(answers) == {200}


def reload(gateway) -> None:
    for number in (1, 2):
        gateway.load("credit", number)


def test_too_long_a_body_is_413(credit):
    body = b'{"inputs": [' + b" " * (9 * 2**20) + b"]}"
    url = f"{credit.url}/v2/models/credit/infer"
    assert credit.http.post(url, content=body, headers=credit.headers()).status_code == 413
