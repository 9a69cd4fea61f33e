"""How much an endpoint takes, whoever asks: what is over is 429, and only there."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.grpc
from tests.integration.gateway.parts import wait_until
from tritonclient.utils import InferenceServerException

ASKED = 30


@pytest.fixture
def limited(gateway):
    """`credit` takes one request a second, `free` what there is."""
    gateway.load("free", 1)
    free = gateway.route("free", gateway.target("free", 1, 100))
    gateway.publish(free, gateway.route("credit", gateway.target("credit", 1, 100), rate_per_s=1))
    wait_until(lambda: gateway.infer("credit").status_code == 429, "the limit", 10)
    yield gateway
    gateway.publish(free, gateway.route("credit", gateway.target("credit", 1, 100)))
    wait_until(lambda: all(gateway.infer("credit").status_code == 200 for _ in range(5)), "its end", 10)


def test_what_is_over_the_rate_is_429_in_the_protocols_shape(limited):
    answers = [limited.infer("credit", headers=limited.headers(sub=f"caller-{n}")) for n in range(ASKED)]
    refused = [a for a in answers if a.status_code == 429]
    assert len(refused) >= ASKED // 2
    assert refused[0].json()["error"]
    assert refused[0].headers["retry-after"] == "1"
    assert {limited.infer("free").status_code for _ in range(ASKED)} == {200}


def test_every_way_in_shares_the_rate(limited):
    wait_until(lambda: limited.infer("credit").status_code == 200, "one more request", 10)
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
    url = f"{limited.url}/v2/models/credit/versions/1/infer"
    answers = [limited.http.post(url, json=body, headers=limited.headers()).status_code for _ in range(ASKED)]
    assert answers.count(429) >= ASKED // 2
    tensor = tritonclient.grpc.InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.array([[1]], np.float32))
    refused = 0
    with tritonclient.grpc.InferenceServerClient(limited.settings.gateway_grpc) as client:
        for _ in range(ASKED):
            try:
                client.infer("credit", [tensor], headers=limited.headers())
            except InferenceServerException as error:
                refused += "RESOURCE_EXHAUSTED" in str(error.status())
    assert refused >= ASKED // 2
