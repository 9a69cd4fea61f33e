"""A collector that is slow or not there changes nothing for anybody; what it gets is nobody's data."""

from __future__ import annotations

import struct

import httpx
from tests.integration.spans.test_one_trace import PREDICT, answered, entered

TWENTY = """
for _ in range(10):
    serving.endpoint("late").predict(full)
    said["trace"] = serving.endpoint("late").predict(keys).attrs["trace_id"]
said["rows"] = len(serving.endpoint("late").predict(keys))
"""


def test_nobody_waits_for_a_collector_that_does_not_answer(house):
    before = house.collector.asked
    with house.collector.holding():
        first = house.notebook(TWENTY)  # whole, with its end, while nothing that it has sent was answered
        second = house.notebook(TWENTY)
        assert (first["rows"], second["rows"]) == (2, 2)
        assert house.collector.asked > before
        assert house.collector.of(second["trace"]) == []
    assert "opentelemetry" not in first["stderr"]


def test_nobody_misses_a_collector_that_is_down(house):
    with house.collector.down():
        said = house.notebook(TWENTY)
    assert said["rows"] == 2
    assert "opentelemetry" not in said["stderr"]
    house.recorded(lambda: house.notebook(TWENTY)["trace"], answered)  # and it is found again


def test_nothing_personal_is_in_any_span(house):
    said = house.notebook(
        """
from themisto.errors import ThemistoError
said["token"] = control.gateway_token()
endpoint = serving.endpoint("late")
endpoint.predict(rows.assign(distance=0.5), key="origin")
for wrong in (full.assign(distance="word-of-kim"), full[["temp"]], keys.assign(origin="nobody-of-kim")):
    try:
        endpoint.predict(wrong)
    except ThemistoError as error:
        said.setdefault("refused", []).append(str(error))
said["trace"] = endpoint.predict(full).attrs["trace_id"]
"""
    )
    assert said["refused"], "an error with somebody's words in it was met"
    url = f"{house.settings.gateway_http}/v2/models/late/infer?access_token=query-of-kim"
    headers = {"authorization": "Bearer wrong-of-kim", "user-agent": "agent-of-kim", "themisto-key": "customer-of-kim"}
    headers |= {"x-envoy-downstream-service-cluster": "cluster-of-kim", "x-client-trace-id": "client-of-kim"}
    refused = httpx.post(url, json={"inputs": []}, headers=headers, trust_env=False)
    assert refused.status_code == 401
    house.collector.wait_for(refused.headers["x-trace-id"], bool)
    house.collector.wait_for(said["trace"], entered)
    house.recorded(lambda: house.notebook(PREDICT.format(frame="full"))["trace"], answered)
    sent = b"\n".join(house.collector.raw)
    assert len(house.collector.raw) > 10
    words = ["of-kim", "of-lee", "4711.2", "4712.5", "secret-of", "scientist", said["token"].split(".")[1]]
    for word in [*(word.encode() for word in words), struct.pack("<f", 4711.25), struct.pack("<f", 4712.5)]:
        at = sent.find(word)
        assert at < 0, (word, sent[max(at - 80, 0) : at + 80])
