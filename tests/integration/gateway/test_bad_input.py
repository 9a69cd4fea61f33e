"""Whatever a caller sends: the right status, the protocol's error shape, and the model server lives on."""

from __future__ import annotations

import gzip
import json
import socket
import time
import zlib

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

X = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}


def without(key: str):
    return {"inputs": [{k: v for k, v in X.items() if k != key}]}


def body(**change):
    return {"inputs": [X | change]}


BODIES = {
    "empty": b"",
    "garbage": b"{nope",
    "object": {},
    "list": [],
    "inputs_no_list": {"inputs": 3},
    "no_inputs": {"inputs": []},
    "null_input": {"inputs": [None]},
    "no_shape": without("shape"),
    "no_data": without("data"),
    "no_datatype": without("datatype"),
    "other_datatype": body(datatype="INT64"),
    "unknown_datatype": body(datatype="FP128"),
    "text_for_a_number": body(data=["a"]),
    "null_for_a_number": body(data=[None]),
    "shape_without_its_data": body(shape=[2, 1]),
    "other_rank": body(shape=[1]),
    "negative_shape": body(shape=[-1, 1]),
    "no_rows": body(shape=[0, 1], data=[]),
    "more_rows_than_a_batch": body(shape=[100, 1], data=[1.0] * 100),
    "unknown_input": body(name="other"),
    "input_twice": {"inputs": [X, X]},
    "unknown_output": {"inputs": [X], "outputs": [{"name": "other"}]},
    "number_too_large": b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1e999]}]}',
    "nested": b"[" * 50_000,
    # Triton would reserve memory for these and end with all it serves.
    "shape_of_a_trillion": body(shape=[2**40, 1]),
    "shape_by_factors": body(shape=[2**20, 2**20]),
    "shape_spelt_otherwise": json.dumps(body(shape=[2**40, 1])).replace("shape", r"\u0073hape").encode(),
    "shape_after_another": b'{"inputs":[{"shape":[1,1],"shape":[99999999999],"name":"x","datatype":"FP32"}]}',
}


@pytest.mark.parametrize("name", BODIES)
def test_wrong_body_is_400_in_the_protocols_shape(credit, name):
    content = BODIES[name] if isinstance(BODIES[name], bytes) else json.dumps(BODIES[name]).encode()
    answer = credit.http.post(f"{credit.url}/v2/models/credit/infer", content=content, headers=credit.headers())
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"]
    assert credit.triton.popen.poll() is None
    assert credit.infer("credit").status_code == 200


@pytest.mark.parametrize("length", ["9999999", "-5", "abc"])
def test_wrong_length_of_the_json_part_is_400(credit, length):
    told = credit.headers() | {"inference-header-content-length": length}
    answer = credit.http.post(f"{credit.url}/v2/models/credit/infer", json=body(), headers=told)
    assert answer.status_code == 400
    assert "error" in answer.json()


def test_binary_tensor_that_is_cut_is_400(credit):
    head = json.dumps(
        {"inputs": [{k: v for k, v in X.items() if k != "data"} | {"parameters": {"binary_data_size": 400}}]}
    )
    told = credit.headers() | {"inference-header-content-length": str(len(head))}
    answer = credit.http.post(f"{credit.url}/v2/models/credit/infer", content=head.encode() + b"\0" * 4, headers=told)
    assert answer.status_code == 400
    assert "unexpected size" in answer.json()["error"]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_words_for_no_number_pass_as_python_writes_them(credit, word):
    """Not JSON (RFC 8259), yet what Triton and Python read and write. In the log they are null."""
    content = f'{{"inputs":[{{"name":"x","shape":[1,1],"datatype":"FP32","data":[{word}]}}]}}'
    answer = credit.http.post(f"{credit.url}/v2/models/credit/infer", content=content, headers=credit.headers())
    assert answer.status_code == 200
    assert f"[{word}]" in answer.text


@pytest.mark.parametrize("headers", [{}, {"content-encoding": "gzip"}], ids=["as it is", "packed"])
def test_body_of_a_hundred_megabytes_is_refused(credit, headers):
    content = b" " * (100 * 2**20)
    content = gzip.compress(content, 1) if headers else content
    answer = credit.http.post(
        f"{credit.url}/v2/models/credit/infer", content=content, headers=credit.headers() | headers
    )
    assert answer.status_code in ((400, 413) if headers else (413,))  # unpacking stops at a hundredfold
    assert list(answer.json()) == ["error"]


def test_packed_by_something_else_is_415(credit):
    packed = zlib.compress(json.dumps(body()).encode())
    told = credit.headers() | {"content-encoding": "deflate"}
    answer = credit.http.post(f"{credit.url}/v2/models/credit/infer", content=packed, headers=told)
    assert answer.status_code == 415
    assert "gzip" in answer.json()["error"]


def test_what_is_packed_is_checked_too(credit):
    packed = gzip.compress(json.dumps(body(shape=[2**40, 1])).encode())
    told = credit.headers() | {"content-encoding": "gzip"}
    assert credit.http.post(f"{credit.url}/v2/models/credit/infer", content=packed, headers=told).status_code == 400
    assert credit.triton.popen.poll() is None


def test_slow_body_ends_with_the_deadline(credit):
    with socket.create_connection(("127.0.0.1", credit.settings.ports.gateway_http), timeout=40) as slow:
        slow.sendall(
            f"POST /v2/models/credit/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n"
            f"authorization: {credit.headers()['authorization']}\r\nthemisto-timeout-ms: 500\r\n\r\n{{".encode()
        )
        assert credit.infer("credit").status_code == 200  # others are not kept
        said = slow.recv(4000).decode()
    assert said.startswith("HTTP/1.1 408 ")
    assert '{"error":' in said


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/v2/models/nothere/infer", "POST", 404),
        ("/v2/models/credit/versions/2/infer", "POST", 404),
        ("/v2/models/credit/generate_stream", "POST", 404),
        ("/v2/models/credit%2f..%2fother/infer", "POST", 400),
        ("/v2/systemsharedmemory/region/x/register", "POST", 404),
        ("/v2/models/credit/infer", "GET", 405),
        ("/v2/models/credit/infer", "DELETE", 405),
    ],
)
def test_what_is_not_there_is_said_so(credit, path, method, status):
    sent = {"json": body()} if method == "POST" else {}
    answer = credit.http.request(method, f"{credit.url}{path}", headers=credit.headers(), **sent)
    assert answer.status_code == status, answer.text
    assert "error" in answer.json()


def test_expired_token_is_401(credit):
    now = int(time.time())
    answer = credit.infer("credit", headers=credit.headers(iat=now - 700, exp=now - 100))
    assert answer.status_code == 401
    assert "expired" in answer.json()["error"]


def test_forged_headers_of_ours_change_nothing(credit):
    told = {
        "x-release": "credit--2",
        "x-fallback": "default",
        "x-shadow": "credit--2.http",
        "x-caller": "somebody",
        "x-next": "next 500",
        "x-absent": "1",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-max-retries": "0",
        "x-envoy-original-path": "/v2/models/credit--2/infer",
    }
    answer = credit.infer("credit", **told)
    assert answer.status_code == 200
    assert answer.json()["outputs"][0]["data"] == [2.0]
    assert answer.headers["x-release"] == "credit@1"
    assert not {"x-fallback", "x-next", "x-absent"} & set(answer.headers)


GRPC = {
    "unknown_endpoint": ({"model_name": "nothere"}, grpc.StatusCode.UNIMPLEMENTED),
    "release_by_name": ({"model_name": "credit--2"}, grpc.StatusCode.UNIMPLEMENTED),
    "unknown_input": ({"name": "other"}, grpc.StatusCode.INVALID_ARGUMENT),
    "other_datatype": ({"datatype": "INT64"}, grpc.StatusCode.INVALID_ARGUMENT),
    "unknown_datatype": ({"datatype": "NOPE"}, grpc.StatusCode.INVALID_ARGUMENT),
    "other_rank": ({"shape": [1]}, grpc.StatusCode.INVALID_ARGUMENT),
    "negative_shape": ({"shape": [-1, 1]}, grpc.StatusCode.INVALID_ARGUMENT),
    "shape_that_overflows": ({"shape": [2**62, 8]}, grpc.StatusCode.INVALID_ARGUMENT),
    "bytes_that_do_not_fit": ({"raw": b"\0" * 3}, grpc.StatusCode.INVALID_ARGUMENT),
}


@pytest.mark.parametrize("name", GRPC)
def test_wrong_grpc_request_has_the_right_code_and_words(credit, name):
    change, code = GRPC[name]
    told = {"model_name": "credit", "name": "x", "datatype": "FP32", "shape": [1, 1], "raw": b"\0" * 4} | change
    request = service_pb2.ModelInferRequest(model_name=told["model_name"], raw_input_contents=[told["raw"]])
    request.inputs.add(name=told["name"], datatype=told["datatype"], shape=told["shape"])
    with grpc.insecure_channel(credit.settings.gateway_grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            stub.ModelInfer(request, metadata=tuple(credit.headers().items()), timeout=10)
    assert error.value.code() == code, error.value.details()
    assert error.value.details()
    assert credit.triton.popen.poll() is None
