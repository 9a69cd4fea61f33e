"""What answers in a release's place: the earlier one, its rule, its declared default; each says so, on both wires."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import tritonclient.http
from tests.integration.gateway.parts import SIGNATURE, Gateway, wait_until
from tritonclient.grpc import service_pb2, service_pb2_grpc

from themisto_hub.gateway.fallback import DefaultAnswer

DEFAULT = DefaultAnswer(outputs=SIGNATURE.outputs, values={"y": 0.5})
RULE = "def predict(frame):\n    return frame['x'] + 100\n"
RAISES = "def predict(frame):\n    raise RuntimeError('no idea')\n"
SLEEPS = "import time\ndef predict(frame):\n    time.sleep(3)\n    return frame['x']\n"


@pytest.fixture(scope="module")
def sure(gateway: Gateway) -> Iterator[Gateway]:
    """The endpoint `credit` with a transformer beside it; release 1 answers, 7 is not there, 8 raises, 9 sleeps."""
    gateway.transformer.start(gateway.transformer_ready)
    gateway.load_function("rule.credit--8", RULE)
    gateway.load_function("credit--8", RAISES)
    gateway.load_function("credit--9", SLEEPS)
    yield gateway
    gateway.transformer.stop()


def publish(gateway: Gateway, number: int, *stand_ins: tuple[str, str], **fields) -> None:
    others = tuple(gateway.stand_in(kind, name) for kind, name in stand_ins)
    gateway.publish(gateway.route("credit", gateway.target("credit", number, 100, fallbacks=others, **fields)))


def by_grpc(gateway: Gateway, rows: int = 1, **headers: str):
    request = service_pb2.ModelInferRequest(model_name="credit")
    request.inputs.add(name="x", datatype="FP32", shape=[rows, 1]).contents.fp32_contents.extend([1.0] * rows)
    with grpc.insecure_channel(gateway.settings.gateway_grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        metadata = tuple((gateway.headers() | headers).items())
        answer, call = stub.ModelInfer.with_call(request, metadata=metadata, timeout=10)
    values = np.frombuffer(answer.raw_output_contents[0], np.float32).tolist()
    told = dict(call.initial_metadata())
    return values, told.get("x-release"), told.get("x-fallback")


def by_http(gateway: Gateway, x: float = 1.0, **headers: str):
    answer = gateway.infer("credit", x, **headers)
    assert answer.status_code == 200, answer.text
    said = answer.headers
    return answer.json()["outputs"][0]["data"], said.get("x-release"), said.get("x-fallback")


def test_release_that_answers_is_no_fallback(sure):
    publish(sure, 1, ("earlier", "credit--2"), default=DEFAULT)
    assert by_http(sure) == ([2.0], "credit@1", None)
    assert by_grpc(sure) == ([2.0], "credit@1", None)


@pytest.mark.parametrize("number", [7, 8], ids=["not-there", "raises"])
def test_earlier_release_answers_for_one_that_cannot(sure, number):
    publish(sure, number, ("earlier", "credit--1"), default=DEFAULT)
    assert by_http(sure) == ([2.0], "credit@1", "earlier")
    assert by_grpc(sure) == ([2.0], "credit@1", "earlier")


@pytest.mark.parametrize("number", [7, 8], ids=["not-there", "raises"])
def test_rule_comes_after_the_earlier_release_and_before_the_default(sure, number):
    publish(sure, number, ("earlier", "credit--6"), ("rule", "rule.credit--8"), default=DEFAULT)
    assert by_http(sure) == ([101.0], "credit@8", "rule")
    assert by_grpc(sure) == ([101.0], "credit@8", "rule")


def test_default_comes_last_once_for_each_row(sure):
    publish(sure, 8, ("earlier", "credit--6"), ("rule", "rule.credit--6"), default=DEFAULT)
    assert by_http(sure) == ([0.5], "credit@8", "default")
    assert by_grpc(sure, rows=3) == ([0.5, 0.5, 0.5], "credit@8", "default")
    tensor = tritonclient.http.InferInput("x", [4, 1], "FP32")
    tensor.set_data_from_numpy(np.ones((4, 1), np.float32))
    with tritonclient.http.InferenceServerClient(sure.url.removeprefix("http://")) as client:
        result = client.infer("credit", [tensor], headers=sure.headers(), request_id="mine")
    assert result.as_numpy("y").tolist() == [[0.5]] * 4
    assert result.get_response()["id"] == "mine"


def test_release_that_takes_too_long_is_passed_over(sure):
    publish(sure, 9, ("earlier", "credit--1"), default=DEFAULT, fallback_after_ms=200)
    assert by_http(sure) == ([2.0], "credit@1", "earlier")
    assert by_grpc(sure) == ([2.0], "credit@1", "earlier")


def test_without_anything_declared_the_error_is_the_models(sure):
    publish(sure, 8)
    answer = sure.infer("credit")
    assert answer.status_code == 500
    assert "no idea" in answer.json()["error"]
    with pytest.raises(grpc.RpcError, match="no idea"):
        by_grpc(sure)


def test_last_in_line_has_the_last_word(sure):
    """Both raise: the caller hears it at once, not after five seconds of trying."""
    publish(sure, 8, ("earlier", "credit--8"))
    answer = sure.infer("credit")
    assert (answer.status_code, answer.headers["x-fallback"]) == (500, "earlier")
    assert "x-next" not in answer.headers
    assert answer.elapsed.total_seconds() < 4


def test_callers_mistake_is_answered_by_the_release_itself(sure):
    publish(sure, 1, ("earlier", "credit--2"), ("rule", "rule.credit--8"), default=DEFAULT)
    body = {"inputs": [{"name": "other", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
    answer = sure.http.post(f"{sure.url}/v2/models/credit/infer", json=body, headers=sure.headers())
    assert (answer.status_code, answer.headers.get("x-fallback")) == (400, None)
    assert "unexpected inference input" in answer.json()["error"]


def test_caller_cannot_ask_for_the_default(sure):
    publish(sure, 1, default=DEFAULT)
    assert by_http(sure, **{"x-fallback": "default", "x-release": "credit--1"}) == ([2.0], "credit@1", None)
    direct = f"http://127.0.0.1:{sure.settings.ports.transformer_http}/v2/models/credit--1/infer"
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
    told = sure.headers() | {"x-fallback": "default", "x-release": "credit--1"}
    assert sure.http.post(direct, json=body, headers=told).status_code == 403


def test_log_names_what_was_chosen_and_what_answered(sure):
    publish(sure, 8, ("earlier", "credit--1"))
    headers = sure.headers(sub="fallen")
    assert sure.infer("credit", headers=headers).status_code == 200
    wait_until(lambda: bool(sure.logged("credit", "fallen")), "the log", 15)
    (row,) = sure.logged("credit", "fallen")
    assert (row["chosen"], row["release"], row["fallback"], row["status"]) == ("credit@8", "credit@1", "earlier", 200)
    assert row["outputs"] == {"y": [2.0]}


def test_default_answers_while_the_model_server_is_down_and_the_release_when_it_is_back(sure):
    publish(sure, 1, default=DEFAULT)
    sure.triton.stop(9)
    try:
        assert by_http(sure) == ([0.5], "credit@1", "default")
        assert by_grpc(sure) == ([0.5], "credit@1", "default")
    finally:
        sure.triton.start(sure.triton_ready)
        for number in (1, 2):
            sure.load("credit", number)
        for name, source in (("rule.credit--8", RULE), ("credit--8", RAISES), ("credit--9", SLEEPS)):
            sure.load_function(name, source)
    wait_until(lambda: by_http(sure)[2] is None, "the release itself", 20)
