"""Shadows: copies whose answers are in the log, and which cost the caller nothing, however they fare."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tests.integration.gateway.parts import INFER_KEY, Gateway, wait_until

from themisto_hub.gateway.routes import Target
from themisto_hub.gateway.shadow import AT_ONCE
from themisto_hub.model_server.infer_key import INFER_HEADER

SLOW = "import time\ndef predict(frame):\n    time.sleep(0.2 * len(frame))\n    return frame['x'] + 5\n"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def shadowed(gateway: Gateway, shadow: Target) -> Gateway:
    gateway.publish(gateway.route("credit", gateway.target("credit", 1, 100), shadow))
    return gateway


def pairs(gateway: Gateway, caller: str, count: int):
    """(the caller's row, the shadow's row) of each request, once there are so many."""

    def found():
        rows = gateway.logged("credit", caller)
        shadows = {row["request_id"]: row for row in rows if row["shadow"]}
        return [(row, shadows[row["request_id"]]) for row in rows if not row["shadow"] and row["request_id"] in shadows]

    wait_until(lambda: len(found()) >= count, f"{count} pairs in the log", 20)
    return found()


def test_both_answers_are_in_the_log_under_one_request_id(gateway):
    shadowed(gateway, gateway.target("credit", 2, 0, shadow=True))
    headers = gateway.headers(sub="both")
    told = {"themisto-key": "customer-1", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    answer = gateway.infer("credit", 41.0, headers=headers, **told)
    assert answer.headers["x-release"] == "credit@1"
    ((own, copy),) = pairs(gateway, "both", 1)
    assert own["request_id"] == copy["request_id"] == answer.headers["x-request-id"]
    assert (own["release"], own["outputs"], own["shadow"]) == ("credit@1", {"y": [42.0]}, False)
    assert (copy["release"], copy["outputs"], copy["shadow"]) == ("credit@2", {"y": [43.0]}, True)
    assert (copy["inputs"], copy["key"], copy["status"], copy["protocol"]) == ({"x": [41.0]}, "customer-1", 200, "http")
    assert own["trace_id"] == copy["trace_id"] == TRACE


def test_binary_tensors_and_grpc_are_copied_too(gateway):
    shadowed(gateway, gateway.target("credit", 2, 0, shadow=True))
    values = np.array([[3]], np.float32)
    tensor = tritonclient.grpc.InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(values)
    with tritonclient.grpc.InferenceServerClient(gateway.settings.gateway_grpc) as client:
        client.infer("credit", [tensor], headers=gateway.headers(sub="wires"))
    tensor = tritonclient.http.InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(values)
    with tritonclient.http.InferenceServerClient(gateway.url.removeprefix("http://")) as client:
        client.infer("credit", [tensor], headers=dict(gateway.headers(sub="wires")))
    found = pairs(gateway, "wires", 2)
    assert {copy["protocol"] for _, copy in found} == {"http", "grpc"}
    for own, copy in found:
        assert (own["outputs"], copy["outputs"], copy["inputs"]) == ({"y": [4.0]}, {"y": [5.0]}, {"x": [3.0]})
        assert copy["release"] == "credit@2"


def test_slow_shadow_keeps_nobody_waiting_and_never_piles_up(gateway):
    """A shadow of 200 ms under more load than it can take: all callers are answered, the rest of the copies dropped."""
    gateway.load_function("credit--5", SLOW)
    shadowed(gateway, gateway.target("credit", 5, 0, shadow=True))
    headers = gateway.headers(sub="many")
    requests = AT_ONCE * 6
    before = stat(gateway, "credit--5.http.shadow", "upstream_rq_total")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: gateway.infer("credit", headers=headers), range(requests)))
    assert {(a.status_code, a.headers["x-release"]) for a in answers} == {(200, "credit@1")}
    name = "credit--5.http.shadow"
    sent = stat(gateway, name, "upstream_rq_total") - before
    assert stat(gateway, name, "upstream_rq_pending_overflow") > 0
    assert AT_ONCE <= sent < requests
    assert stat(gateway, name, "upstream_cx_active") <= AT_ONCE


@pytest.mark.parametrize("how", ["down", "not loaded", "raises"])
def test_shadow_that_fails_is_a_row_and_nothing_else(gateway, how):
    if how == "down":
        shadow = Target(release="credit--4", weight_pct=0, http="127.0.0.1:9", grpc="127.0.0.1:9", shadow=True)
    elif how == "raises":
        gateway.load_function("credit--3", "def predict(frame):\n    raise RuntimeError('no idea')\n")
        shadow = gateway.target("credit", 3, 0, shadow=True)
    else:
        shadow = gateway.target("credit", 6, 0, shadow=True)
    shadowed(gateway, shadow)
    headers = gateway.headers(sub=f"fails {how}")
    answers = [gateway.infer("credit", headers=headers) for _ in range(5)]
    assert {(a.status_code, a.headers["x-release"]) for a in answers} == {(200, "credit@1")}
    for own, copy in pairs(gateway, f"fails {how}", 5):
        assert (own["status"], own["release"]) == (200, "credit@1")
        assert copy["status"] >= 500
        assert copy["release"] == shadow.title


def test_shadow_takes_no_way_of_the_callers(gateway):
    """Its socket is Envoy's own; what leads there is no endpoint, and no header of a caller goes there."""
    shadowed(gateway, gateway.target("credit", 2, 0, shadow=True))
    socket = gateway.settings.folder("gateway") / "shadow.sock"
    assert socket.stat().st_mode & 0o777 == 0o600
    headers = gateway.headers(sub="forger")
    told = {"x-shadow": "credit--2.http", "x-caller": "somebody", "x-endpoint": "other"}
    assert gateway.infer("credit", headers=headers, **told).headers["x-release"] == "credit@1"
    ((own, copy),) = pairs(gateway, "forger", 1)
    assert (own["caller"], copy["caller"], copy["endpoint"]) == ("forger", "forger", "credit")


def test_shadow_counts_once_at_the_model_server(gateway):
    shadowed(gateway, gateway.target("credit", 2, 0, shadow=True))
    url = f"http://{gateway.http_address}/v2/models/credit--2/stats"

    def count() -> int:
        stats = gateway.http.get(url, headers={INFER_HEADER: INFER_KEY}).json()
        return int(stats["model_stats"][0]["inference_stats"]["success"]["count"])

    before = count()
    for _ in range(10):
        gateway.infer("credit", headers=gateway.headers(sub="once"))
    pairs(gateway, "once", 10)
    assert count() - before == 10


def stat(gateway: Gateway, cluster: str, name: str) -> int:
    """Envoy ends a cluster's name at its first dot; what follows begins the metric's."""
    release, _, kind = cluster.partition(".")
    page = gateway.http.get(gateway.envoy_ready.removesuffix("/ready") + "/stats/prometheus").text
    wanted = f'envoy_cluster_{kind.replace(".", "_")}_{name}{{envoy_cluster_name="{release}"}} '
    return sum(int(line.removeprefix(wanted)) for line in page.splitlines() if line.startswith(wanted))
