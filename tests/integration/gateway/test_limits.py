"""What bounds a request: the caller's deadline, the release's bulkhead, the caller's rate."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from tests.integration.gateway.parts import Gateway, Process, wait_until
from tritonclient.grpc import service_pb2, service_pb2_grpc

SLOW = "import time\ndef predict(frame):\n    time.sleep(1)\n    return frame['x']\n"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def slow(gateway: Gateway) -> Gateway:
    """The endpoint `slow` takes a second and one request at a time; `credit` is beside it."""
    gateway.load_function("slow--1", SLOW)
    gateway.publish(
        gateway.route("slow", gateway.target("slow", 1, 100, max_concurrent=1)),
        gateway.route("credit", gateway.target("credit", 1, 100)),
    )
    return gateway


def test_caller_who_does_not_wait_is_told_in_time(slow):
    answer = slow.infer("slow", **{"themisto-timeout-ms": "150"})
    assert answer.status_code == 504
    assert answer.json() == {"error": "upstream request timeout"}
    assert answer.elapsed.total_seconds() < 1


def test_grpc_deadline_is_the_callers(slow):
    request = service_pb2.ModelInferRequest(model_name="slow")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(1.0)
    with grpc.insecure_channel(slow.settings.gateway_grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            stub.ModelInfer(request, metadata=tuple(slow.headers().items()), timeout=0.2)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("said", ["soon", "-1", "", "0", "99999999"])
def test_deadline_that_is_none_changes_nothing(slow, said):
    wait_until(lambda: slow.infer("slow", **{"themisto-timeout-ms": said}).status_code == 200, "an answer", 15)


def test_full_release_says_so_at_once_and_its_neighbour_never_notices(slow):
    with ThreadPoolExecutor(9) as pool:
        waiting = [pool.submit(slow.infer, "slow") for _ in range(8)]
        beside = [slow.infer("credit") for _ in range(10)]
        answers = [w.result() for w in waiting]
    assert {a.status_code for a in beside} == {200}
    refused = [a for a in answers if a.status_code == 503]
    assert len(refused) >= 5
    assert "as many requests at once as it may" in refused[0].json()["error"]
    assert all(a.elapsed.total_seconds() < 1 for a in refused)
    assert {a.status_code for a in answers} == {200, 503}


def test_two_releases_share_no_cluster_and_no_bound(slow):
    """What keeps a slow canary away from stable: every number that bounds it is its own."""
    slow.publish(slow.route("credit", slow.target("credit", 1, 70), slow.target("credit", 2, 30)))
    clusters = json.loads((slow.settings.xds / "cds.json").read_text())["resources"]
    names = [c["name"] for c in clusters if c["name"].startswith("credit--")]
    assert {"credit--1.http", "credit--1.grpc", "credit--2.http", "credit--2.grpc"} <= set(names)
    assert len(names) == len(set(names))
    assert all(c["circuit_breakers"]["thresholds"] for c in clusters)


def test_answer_and_log_name_the_callers_trace(slow):
    headers = slow.headers(sub="traced")
    told = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    answer = slow.infer("credit", headers=headers, **told)
    assert answer.headers["x-trace-id"] == TRACE
    assert answer.headers["x-request-id"]
    for wrong in ("<script>", "00-xyz-b7ad6b7169203331-01", ""):
        assert "x-trace-id" not in slow.infer("credit", headers=headers, traceparent=wrong).headers
    assert "x-trace-id" not in slow.infer("credit", headers=headers).headers
    wait_until(lambda: len(slow.logged("credit", "traced")) == 5, "the log", 15)
    traces = [row["trace_id"] for row in slow.logged("credit", "traced")]
    assert sorted(traces, key=str) == [TRACE, None, None, None, None]


def test_caller_over_its_rate_is_429_and_others_are_not(gateway, tmp_path):
    """An Envoy of its own, with a small rate."""
    environment = gateway.environment | {"THEMISTO_GATEWAY_CALLER_PER_S": "3"}
    gateway.envoy.stop(signal.SIGKILL)
    limited = Process("themisto_hub.gateway", "envoy", environment=environment, log=tmp_path / "envoy.log")
    try:
        limited.start(gateway.envoy_ready)
        gateway.publish(gateway.route("credit", gateway.target("credit", 1, 100)))
        headers = gateway.headers(sub="eager")
        answers = [gateway.infer("credit", headers=headers) for _ in range(30)]
        refused = [a for a in answers if a.status_code == 429]
        assert refused
        assert (refused[0].headers["retry-after"], list(refused[0].json())) == ("1", ["error"])
        assert gateway.infer("credit", headers=gateway.headers(sub="other")).status_code == 200
        request = service_pb2.ModelInferRequest(model_name="credit")
        with grpc.insecure_channel(gateway.settings.gateway_grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            codes = set()
            for _ in range(30):
                try:
                    stub.ModelInfer(request, metadata=tuple(headers.items()), timeout=5)
                except grpc.RpcError as error:
                    codes.add(error.code())
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
    finally:
        limited.stop(signal.SIGKILL)
        gateway.envoy.start(gateway.envoy_ready)
