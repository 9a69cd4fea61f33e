"""What the gateway does by itself is seen: what stood in for a release, and the copy that a shadow got."""

from __future__ import annotations

import httpx
from tests.integration.spans.conftest import Tree
from tests.integration.spans.test_one_trace import PREDICT, TOKEN, answered

from themisto_hub.model_server.client import TritonClient

ROW = {
    "inputs": [
        {"name": "temp", "datatype": "FP32", "shape": [1, 1], "data": [1.0]},
        {"name": "gate", "datatype": "BYTES", "shape": [1, 1], "data": ["A"]},
        {"name": "distance", "datatype": "FP64", "shape": [1, 1], "data": [1.0]},
    ]
}


def test_what_stood_in_is_told_and_every_try_is_seen(house):
    default = '{"sum": 0.0, "at_gate": "none"}'
    said = house.notebook(f"serving.deploy('safe', model(), full, default='{default}')\n{TOKEN}")
    triton = TritonClient(
        f"http://127.0.0.1:{house.settings.ports.triton['dev'][0]}",
        "secret-of-triton_dev",
        "secret-of-triton_infer_dev",
    )
    for _ in range(20):  # the control plane loads it again: what we take away may be back before we ask
        triton.unload("safe--1")
        answer = httpx.post(
            f"{house.settings.gateway_http}/v2/models/safe/infer",
            json=ROW,
            headers={"authorization": f"Bearer {said['token']}"},
            trust_env=False,
        )
        if answer.headers.get("x-fallback"):
            break
    triton.close()
    assert (answer.status_code, answer.headers["x-fallback"]) == (200, "default")
    spans = house.collector.wait_for(answer.headers["x-trace-id"], lambda s: "infer" in {one.name for one in s})
    tree = Tree(spans)
    assert tree.one("gateway", "infer").attributes["themisto.fallback"] == "default"
    tries = [span for span in spans if span.name == "ask safe--1.http"]
    assert [t.attributes["themisto.fallback"] for t in tries if "themisto.fallback" in t.attributes] == ["default"]
    assert len(tries) > 1


def test_a_shadows_copy_is_in_the_trace_of_the_request(house):
    house.notebook(
        """
other = model()
other.doc_string = "another"
serving.deploy("watched", model(), full)
serving.deploy("watched", other, full, strategy="shadow")
"""
    )
    predict = PREDICT.format(frame="full").replace("late", "watched")
    ask = f"import time\nfor _ in range(10):\n    time.sleep(0.3)  # the gateway hears of the shadow\n    {predict}"
    spans = house.recorded(
        lambda: house.notebook(ask)["trace"],
        lambda s: answered(s) and [one.name for one in s].count("InferRequest") == 2 and "shadow" in names(s),
    )
    assert names(spans) >= {"watched--1", "watched--2"}


def names(spans):
    return {span.name for span in spans}
