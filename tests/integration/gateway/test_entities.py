"""Requests that name entity keys only go to the transformer, with the release they are for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.grpc import service_pb2


class Transformer(BaseHTTPRequestHandler):
    """Stands in for the transformer: answers which release it was asked for and by whom."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        said = f"{self.path} {self.headers['x-release']} {self.headers['authorization'][:10]}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def looked_up(gateway) -> Iterator[object]:
    ports = gateway.settings.ports
    http = ThreadingHTTPServer(("127.0.0.1", ports.transformer_http), Transformer)
    threading.Thread(target=http.serve_forever, daemon=True).start()

    def infer(request: service_pb2.ModelInferRequest, context: grpc.ServicerContext) -> service_pb2.ModelInferResponse:
        release = dict(context.invocation_metadata())["x-release"]
        return service_pb2.ModelInferResponse(model_name=release, id="from the transformer")

    server = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(
        infer, service_pb2.ModelInferRequest.FromString, service_pb2.ModelInferResponse.SerializeToString
    )
    service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": handler})
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"127.0.0.1:{ports.transformer_grpc}")
    server.start()
    gateway.publish(
        gateway.route(
            "credit",
            gateway.target("credit", 1, 100),
            feature_service="delays@1",
            feature_names=("x", "y"),
            keys=("customer",),
        ),
        gateway.route("plain", gateway.target("plain", 1, 100)),
    )
    yield gateway
    server.stop(None)
    http.shutdown()
    http.server_close()


def ask(gateway, *names: str, endpoint: str = "credit", **headers: str):
    inputs = [{"name": n, "shape": [1, 1], "datatype": "FP32", "data": [1.0]} for n in names]
    url = f"{gateway.url}/v2/models/{endpoint}/infer"
    return gateway.http.post(url, json={"inputs": inputs, "id": "x"}, headers=gateway.headers() | headers)


def test_keys_alone_go_to_the_transformer(looked_up):
    answer = ask(looked_up, "customer")
    assert answer.text == "/v2/models/credit/infer credit--1 Bearer eyJ"
    assert answer.headers["x-release"] == "credit@1"


def test_features_given_go_straight_to_triton(looked_up):
    assert ask(looked_up, "x").json()["outputs"][0]["data"] == [2.0]
    assert ask(looked_up, "customer", "x").status_code == 400  # Triton's own word on an unknown input


def test_caller_cannot_choose_the_way(looked_up):
    assert ask(looked_up, "x", **{"x-entity": "1"}).json()["outputs"][0]["data"] == [2.0]


def test_grpc_keys_alone_go_to_the_transformer(looked_up):
    with tritonclient.grpc.InferenceServerClient(looked_up.settings.gateway_grpc) as client:
        key = tritonclient.grpc.InferInput("customer", [1, 1], "FP32")
        key.set_data_from_numpy(np.ones((1, 1), np.float32))
        response = client.infer("credit", [key], headers=looked_up.headers()).get_response()
        assert (response.model_name, response.id) == ("credit--1", "from the transformer")
        x = tritonclient.grpc.InferInput("x", [1, 1], "FP32")
        x.set_data_from_numpy(np.ones((1, 1), np.float32))
        assert client.infer("credit", [x], headers=looked_up.headers()).as_numpy("y").tolist() == [[2.0]]


def test_feature_reads_need_their_scope(looked_up):
    url = f"{looked_up.url}/v2/features/delays"
    assert looked_up.http.post(url, json={}, headers=looked_up.headers()).text.startswith("/v2/features/delays")
    assert looked_up.http.post(url, json={}, headers=looked_up.headers(scopes=["infer"])).status_code == 403
    assert looked_up.http.post(url, json={}).status_code == 401


def test_entity_request_of_another_group_is_403(looked_up):
    headers = looked_up.headers(groups=["model-risk"])
    assert ask(looked_up, "customer", **headers).status_code == 403
