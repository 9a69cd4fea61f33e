"""The gateway speaks the Open Inference Protocol: `tritonclient` as it is, and the specification's own shapes."""

from __future__ import annotations

import contextlib
import gzip
import json
import queue
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from jsonschema import Draft202012Validator
from tests.integration.gateway import schemas
from tests.integration.gateway.parts import SIGNATURE, Gateway
from tritonclient.utils import InferenceServerException

from themisto_hub.gateway.fallback import DefaultAnswer

ROWS = np.arange(8, dtype=np.float32).reshape(8, 1)


@pytest.fixture
def http(credit: Gateway) -> Iterator[tritonclient.http.InferenceServerClient]:
    with tritonclient.http.InferenceServerClient(credit.url.removeprefix("http://")) as client:
        yield client


@pytest.fixture
def wire(credit: Gateway) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    with tritonclient.grpc.InferenceServerClient(credit.settings.gateway_grpc) as client:
        yield client


def tensor(module, *, rows: np.ndarray = ROWS, **how):
    given = module.InferInput("x", list(rows.shape), "FP32")
    given.set_data_from_numpy(rows, **how)
    return given


# tritonclient over HTTP


@pytest.mark.parametrize("sent", [True, False], ids=["binary request", "JSON request"])
@pytest.mark.parametrize("answered", [True, False], ids=["binary answer", "JSON answer"])
def test_http_tensors_binary_and_json(credit, http, sent, answered):
    wanted = [tritonclient.http.InferRequestedOutput("y", binary_data=answered)]
    result = http.infer(
        "credit",
        [tensor(tritonclient.http, binary_data=sent)],
        outputs=wanted,
        request_id="mine",
        headers=credit.headers(),
    )
    assert result.as_numpy("y").tolist() == (ROWS + 1).tolist()
    assert result.get_response()["id"] == "mine"


@pytest.mark.parametrize("sent", [True, False], ids=["binary", "JSON"])
def test_http_requests_packed_by_gzip(credit, http, sent):
    result = http.infer(
        "credit",
        [tensor(tritonclient.http, binary_data=sent)],
        headers=credit.headers(),
        request_compression_algorithm="gzip",
        response_compression_algorithm="gzip",  # the gateway answers as it is, which the protocol allows
    )
    assert result.as_numpy("y").tolist() == (ROWS + 1).tolist()


def test_http_request_packed_by_deflate_is_refused_clearly(credit, http):
    with pytest.raises(InferenceServerException, match="as it is, or packed by gzip"):
        http.infer(
            "credit",
            [tensor(tritonclient.http)],
            headers=credit.headers(),
            request_compression_algorithm="deflate",
        )


def test_http_readiness_metadata_config_and_statistics(credit, http):
    def told():
        return credit.headers()  # the client writes into what it is given

    assert http.is_server_live(headers=told())
    assert http.is_server_ready(headers=told())
    assert http.is_model_ready("credit", headers=told())
    assert not http.is_model_ready("nothere", headers=told())
    assert http.get_server_metadata(headers=told())["name"] == "themisto"
    described = http.get_model_metadata("credit", headers=told())
    assert described["name"] == http.get_model_config("credit", headers=told())["name"] == "credit"
    assert described["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}]
    assert http.get_model_config("credit", headers=told())["max_batch_size"] == 64
    assert http.get_inference_statistics("credit", headers=told())["model_stats"][0]["name"] == "credit--1"


def test_http_asynchronous(credit, http):
    asked = [http.async_infer("credit", [tensor(tritonclient.http)], headers=credit.headers()) for _ in range(4)]
    assert all(one.get_result().as_numpy("y").tolist() == (ROWS + 1).tolist() for one in asked)


@pytest.mark.parametrize("call", ["get_model_repository_index", "get_system_shared_memory_status", "get_log_settings"])
def test_http_what_is_the_operators_is_not_there(credit, http, call):
    with pytest.raises(InferenceServerException, match="no such endpoint"):
        getattr(http, call)(headers=credit.headers())


# tritonclient over gRPC


def test_grpc_tensors_and_asynchronous(credit, wire):
    result = wire.infer("credit", [tensor(tritonclient.grpc)], request_id="mine", headers=credit.headers())
    assert result.as_numpy("y").tolist() == (ROWS + 1).tolist()
    assert result.get_response().id == "mine"
    answers: queue.Queue[object] = queue.Queue()
    asked = [tensor(tritonclient.grpc)]
    wire.async_infer("credit", asked, lambda result, error: answers.put(error or result), headers=credit.headers())
    assert answers.get(timeout=10).as_numpy("y").tolist() == (ROWS + 1).tolist()


def test_grpc_readiness_metadata_config_and_statistics(credit, wire):
    headers = credit.headers()
    assert wire.is_server_live()
    assert wire.is_server_ready()
    assert wire.is_model_ready("credit", headers=headers)
    assert wire.get_model_metadata("credit", headers=headers).inputs[0].shape == [-1, 1]
    assert wire.get_model_config("credit", headers=headers).config.max_batch_size == 64
    assert wire.get_inference_statistics("credit", headers=headers).model_stats[0].name == "credit--1"


def test_grpc_packed_message_is_refused_clearly(credit, wire):
    many = np.zeros((60, 1), np.float32)  # worth packing
    with pytest.raises(InferenceServerException, match="send them uncompressed"):
        wire.infer(
            "credit", [tensor(tritonclient.grpc, rows=many)], headers=credit.headers(), compression_algorithm="gzip"
        )


def test_grpc_streaming_is_refused_clearly(credit, wire):
    answers: queue.Queue[object] = queue.Queue()
    wire.start_stream(lambda result, error: answers.put(error or result), headers=credit.headers())
    try:
        with contextlib.suppress(InferenceServerException):  # where the refusal was there first
            wire.async_stream_infer("credit", [tensor(tritonclient.grpc)])
        assert "streaming is not served" in str(answers.get(timeout=15))
    finally:
        wire.stop_stream(cancel_requests=True)
    assert answers.empty()


# The specification's shapes


def valid(schema, document) -> None:
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(document)


def test_documents_have_the_specifications_shapes(credit):
    get, headers = credit.http.get, credit.headers()
    valid(schemas.SERVER, get(f"{credit.url}/v2").json())
    for path in ("", "/versions/1"):
        valid(schemas.MODEL, get(f"{credit.url}/v2/models/credit{path}", headers=headers).json())
    for path in (
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/credit/ready",
        "/v2/models/credit/versions/1/ready",
    ):
        assert get(f"{credit.url}{path}", headers=headers).status_code == 200


@pytest.mark.parametrize("binary", [True, False])
def test_requests_and_answers_have_the_specifications_shapes(credit, binary):
    """What the client sends and what comes back, in the answer of a release and in a declared default."""
    content, length = tritonclient.http.InferenceServerClient.generate_request_body(
        [tensor(tritonclient.http, binary_data=binary)],
        outputs=[tritonclient.http.InferRequestedOutput("y", binary_data=binary)],
    )
    valid(schemas.REQUEST, json.loads(content[:length]))
    told = credit.headers() | ({"inference-header-content-length": str(length)} if length else {})
    default = DefaultAnswer(outputs=SIGNATURE.outputs, values={"y": 0.5})
    credit.transformer.start(credit.transformer_ready)
    try:
        for number, first in ((1, 1.0), (7, 0.5)):
            credit.publish(credit.route("credit", credit.target("credit", number, 100, default=default)))
            answer = credit.http.post(f"{credit.url}/v2/models/credit/infer", content=content, headers=told)
            end = int(answer.headers.get("inference-header-content-length", len(answer.content)))
            document = json.loads(answer.content[:end])
            valid(schemas.ANSWER, document)
            values = np.frombuffer(answer.content[end:], np.float32) if binary else document["outputs"][0]["data"]
            assert values[0] == first
            assert document["outputs"][0]["shape"] == [8, 1]
    finally:
        credit.transformer.stop()


@pytest.mark.parametrize(
    ("path", "content", "authorised", "status"),
    [
        ("/v2/models/credit/infer", b"{}", True, 400),
        ("/v2/models/nothere/infer", b"{}", True, 404),
        ("/v2/models/nothere", None, True, 404),
        ("/v2/models/credit/infer", b"{}", False, 401),
        ("/v2/models/credit/infer", gzip.compress(b"x" * 10), True, 400),
        ("/v2/models/credit/infer", b" " * (9 * 2**20), True, 413),
    ],
)
def test_errors_have_the_specifications_shape(credit, path, content, authorised, status):
    headers = credit.headers() if authorised else {}
    method = "GET" if content is None else "POST"
    answer = credit.http.request(method, f"{credit.url}{path}", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    valid(schemas.ERROR, answer.json())


def test_grpc_errors_are_codes_with_words(credit, wire):
    with pytest.raises(InferenceServerException) as error:
        wire.infer("nothere", [tensor(tritonclient.grpc)], headers=credit.headers())
    assert error.value.status() == f"{grpc.StatusCode.UNIMPLEMENTED}"
    assert error.value.message()
