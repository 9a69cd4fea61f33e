"""A tier's Triton: loads from memory behind its key, answers every dtype, says what is wrong."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from pydantic import SecretStr
from tests.integration.gateway.parts import INFER_KEY, KEY, SIGNATURE, Gateway, adder

from themisto.errors import Failed, Invalid, NotFound, Unavailable
from themisto.serving.models import Column, ServingConfig, Signature
from themisto_hub.model_server import repository
from themisto_hub.model_server.__main__ import tier_server
from themisto_hub.model_server.client import TritonClient
from themisto_hub.model_server.infer_key import INFER_HEADER, INFER_METADATA
from themisto_hub.settings import Deployment, Keys


@pytest.fixture(scope="module")
def triton(tmp_path_factory, free_base) -> Iterator[Gateway]:
    bench = Gateway(tmp_path_factory.mktemp("triton"), free_base())
    try:
        bench.triton.start(bench.triton_ready)
        yield bench
    finally:
        bench.triton.stop()


def identity(signature: Signature) -> bytes:
    """ONNX that answers its inputs: what goes in and out unchanged is what the wire keeps."""
    from onnx import TensorProto, helper

    kinds = {
        "FP32": TensorProto.FLOAT,
        "FP64": TensorProto.DOUBLE,
        "INT64": TensorProto.INT64,
        "INT32": TensorProto.INT32,
        "BOOL": TensorProto.BOOL,
        "BYTES": TensorProto.STRING,
    }
    inputs = [helper.make_tensor_value_info(c.name, kinds[c.dtype], ["N", *c.shape]) for c in signature.inputs]
    outputs = [helper.make_tensor_value_info(c.name, kinds[c.dtype], ["N", *c.shape]) for c in signature.outputs]
    nodes = [
        helper.make_node("Identity", [i.name], [o.name])
        for i, o in zip(signature.inputs, signature.outputs, strict=True)
    ]
    graph = helper.make_graph(nodes, "identity", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


def load(client: TritonClient, name: str, signature: Signature, model: bytes) -> None:
    config = repository.model_config(name, "onnx", signature, ServingConfig())
    client.load(name, config, repository.files("onnx", model))


def test_every_dtype_goes_through(triton):
    values = {
        "FP32": [0.5, -1.0],
        "FP64": [1e300, 0.1],
        "INT64": [2**62, -1],
        "INT32": [7, -7],
        "BOOL": [True, False],
        "BYTES": ["서울", ""],
    }
    signature = Signature(
        inputs=tuple(Column(name=f"in_{d}", dtype=d) for d in values),
        outputs=tuple(Column(name=f"out_{d}", dtype=d) for d in values),
    )
    load(triton.client, "identity--1", signature, identity(signature))
    assert triton.client.index()["identity--1"] == "READY"
    answer = triton.client.infer("identity--1", {f"in_{d}": v for d, v in values.items()}, signature)
    assert answer == {f"out_{d}": v for d, v in values.items()}
    holes = {f"in_{d}": v for d, v in values.items()} | {"in_FP64": [None, 1.0], "in_BYTES": [None, "a"]}
    answer = triton.client.infer("identity--1", holes, signature)
    assert math.isnan(answer["out_FP64"][0])
    assert answer["out_BYTES"] == ["", "a"]


def test_inputs_that_do_not_fit_are_named(triton):
    load(triton.client, "credit--1", SIGNATURE, adder(1))
    with pytest.raises(Invalid, match="'x' is missing"):
        triton.client.infer("credit--1", {"y": [1]}, SIGNATURE)
    with pytest.raises(Invalid, match="'x' is no FP32"):
        triton.client.infer("credit--1", {"x": ["one"]}, SIGNATURE)


def test_output_of_another_shape_than_signed_is_an_error(triton):
    wrong = Signature(inputs=SIGNATURE.inputs, outputs=(Column(name="y", dtype="FP32", shape=(3,)),))
    load(triton.client, "wrong--1", wrong, adder(1))
    with pytest.raises(Failed, match=r"output 'y' has shape \[1, 1\]; the signature says \[1, 3\]"):
        triton.client.infer("wrong--1", {"x": [1.0]}, wrong)


def test_model_that_is_none_fails_with_the_cause_and_the_old_one_stays(triton):
    load(triton.client, "credit--1", SIGNATURE, adder(1))
    with pytest.raises(Failed, match="INVALID_PROTOBUF"):
        load(triton.client, "credit--1", SIGNATURE, b"nothing")
    assert triton.client.infer("credit--1", {"x": [1.0]}, SIGNATURE) == {"y": [2.0]}
    load(triton.client, "credit--1", SIGNATURE, adder(5))  # only the file differs
    assert triton.client.infer("credit--1", {"x": [1.0]}, SIGNATURE) == {"y": [6.0]}
    renamed = Signature(inputs=(Column(name="z", dtype="FP32"),), outputs=SIGNATURE.outputs)
    with pytest.raises(Failed, match="the model's inputs are"):
        load(triton.client, "renamed--1", renamed, adder(1))


def test_the_same_request_again_is_answered_from_memory_where_the_release_says_so(triton):
    for name, serving in (("cached--1", ServingConfig(cache=True)), ("plain--1", ServingConfig())):
        config = repository.model_config(name, "onnx", SIGNATURE, serving)
        triton.client.load(name, config, repository.files("onnx", adder(1)))
        for value in (1.0, 1.0, 2.0):
            assert triton.client.infer(name, {"x": [value]}, SIGNATURE) == {"y": [value + 1]}
    headers = {INFER_HEADER: INFER_KEY}
    counts = {}
    for name in ("cached--1", "plain--1"):
        answer = httpx.get(f"http://{triton.http_address}/v2/models/{name}/stats", headers=headers, timeout=5)
        stats = answer.json()["model_stats"][0]["inference_stats"]
        counts[name] = stats["cache_hit"]["count"]
    assert counts == {"cached--1": 1, "plain--1": 0}


def test_models_with_and_without_a_priority_answer_side_by_side(triton):
    configs = {
        "first--1": ServingConfig(priority=1, instances=2),
        "second--1": ServingConfig(priority=2),
        "free--1": ServingConfig(preferred_batches=(4, 8)),
    }
    for name, serving in configs.items():
        config = repository.model_config(name, "onnx", SIGNATURE, serving)
        triton.client.load(name, config, repository.files("onnx", adder(3)))
    for _ in range(10):
        for name in configs:
            assert triton.client.infer(name, {"x": [1.0]}, SIGNATURE) == {"y": [4.0]}


def test_load_api_is_closed_without_the_key(triton):
    stranger = TritonClient(f"http://{triton.http_address}", "guessed", INFER_KEY)
    with pytest.raises(Failed, match="restricted"):
        load(stranger, "foreign--1", SIGNATURE, adder(1))
    for path in (
        "repository/index",
        "systemsharedmemory/region/a/register",
        "models/credit--1/trace/setting",
        "logging",
    ):
        answer = httpx.post(f"http://{triton.http_address}/v2/{path}", json={}, timeout=5)
        assert answer.status_code == 403, path
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    with grpc.insecure_channel(triton.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="a"), timeout=5)
    assert "restricted" in error.value.details()


@pytest.mark.parametrize("key", ["", "guessed", KEY], ids=["none", "guessed", "the load API's"])
def test_who_lacks_the_infer_key_gets_nothing_over_http_but_health(triton, key):
    load(triton.client, "credit--1", SIGNATURE, adder(1))
    url, headers = f"http://{triton.http_address}", {INFER_HEADER: key} if key else {}
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
    for path in ("infer", "versions/1/infer", "generate", "generate_stream"):
        answer = httpx.post(f"{url}/v2/models/credit--1/{path}", json=body, headers=headers, timeout=5)
        assert (answer.status_code, "restricted" in answer.text) == (403, True), path
        assert INFER_KEY not in answer.text
    for path in ("", "/models/credit--1", "/models/credit--1/config", "/models/credit--1/stats", "/models/stats"):
        assert httpx.get(f"{url}/v2{path}", headers=headers, timeout=5).status_code == 403, path
    for path in ("live", "ready"):
        assert httpx.get(f"{url}/v2/health/{path}", timeout=5).status_code == 200, path
    with pytest.raises(Failed, match="restricted"):
        TritonClient(url, "", key).infer("credit--1", {"x": [1.0]}, SIGNATURE)


@pytest.mark.parametrize("key", [None, "guessed"])
def test_who_lacks_the_infer_key_gets_nothing_over_grpc_but_health(triton, key):
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    load(triton.client, "credit--1", SIGNATURE, adder(1))
    request = service_pb2.ModelInferRequest(model_name="credit--1", raw_input_contents=[b"\0\0\x80?"])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    right, wrong = ((INFER_METADATA, INFER_KEY),), ((INFER_METADATA, key),) if key else None
    with grpc.insecure_channel(triton.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ModelInfer(request, timeout=5, metadata=right).raw_output_contents == [b"\0\0\0@"]
        assert stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=5).ready
        for ask in (
            lambda: stub.ModelInfer(request, timeout=5, metadata=wrong),
            lambda: list(stub.ModelStreamInfer(iter([request]), timeout=5, metadata=wrong)),
            lambda: stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=5, metadata=wrong),
            lambda: stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="credit--1"), timeout=5, metadata=wrong),
            lambda: stub.ModelConfig(service_pb2.ModelConfigRequest(name="credit--1"), timeout=5, metadata=wrong),
            lambda: stub.ModelStatistics(service_pb2.ModelStatisticsRequest(), timeout=5, metadata=wrong),
        ):
            with pytest.raises(grpc.RpcError) as error:
                ask()
            assert "restricted" in error.value.details()
            assert INFER_KEY not in error.value.details()


def test_triton_does_not_start_with_its_inference_api_open(tmp_path):
    keys = Keys(triton_dev=SecretStr(KEY))
    with pytest.raises(Failed, match="open to everybody"):
        tier_server("dev", Deployment(state=tmp_path), keys)


def test_killed_backend_is_found_by_inference_and_healed_by_loading_again(triton):
    load(triton.client, "credit--1", SIGNATURE, adder(1))
    for pid in stubs("credit--1"):
        os.kill(pid, signal.SIGKILL)
    assert triton.client.index()["credit--1"] == "READY"
    with pytest.raises(Failed):
        triton.client.infer("credit--1", {"x": [1.0]}, SIGNATURE)
    triton.client.unload("credit--1")
    load(triton.client, "credit--1", SIGNATURE, adder(1))
    assert triton.client.infer("credit--1", {"x": [1.0]}, SIGNATURE) == {"y": [2.0]}


def test_what_is_not_there_is_said_so(triton):
    with pytest.raises(NotFound):
        triton.client.infer("nothing--1", {"x": [1.0]}, SIGNATURE)
    triton.client.unload("nothing--1")


def test_killed_triton_is_unavailable_and_leaves_no_shared_memory_after_its_next_start(triton):
    load(triton.client, "credit--1", SIGNATURE, adder(1))
    triton.triton.stop(signal.SIGKILL)
    with pytest.raises(Unavailable, match="does not answer"):
        triton.client.index()
    assert not triton.client.ready()
    assert regions(triton)
    triton.triton.start(triton.triton_ready)
    assert triton.client.index() == {}
    assert not regions(triton)


def regions(triton: Gateway) -> list[str]:
    port = triton.settings.ports.triton["dev"][0]
    return [p.name for p in Path("/dev/shm").glob(f"triton_{os.geteuid()}_dev{port}_*")]


def stubs(model: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if words[0].endswith("triton_python_backend_stub") and any(w.startswith(f"{model}_") for w in words):
                found.append(int(entry.name))
    return found
