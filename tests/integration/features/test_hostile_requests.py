"""Requests by key that no client would send: each is told what is wrong, in its API's shape, and nothing breaks."""

from __future__ import annotations

import httpx
import pytest
from tests.integration.features.conftest import Bench
from tests.integration.features.late import RELEASE

BROKEN = (
    b"",
    b"[]",
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"entities": 1}',
    b'{"entities": [{"origin": "JFK"}]}',
    b'{"entities": {}}',
    b'{"entities": {"origin": "JFK"}}',
    b'{"entities": {"origin": [["JFK"]]}}',
    b'{"entities": {"origin": ["JFK"]}, "features": "temp"}',
    b'{"entities": {"origin": ["JFK"]}, "features": []}',
    b'{"entities": {"origin": ["JFK"]}, "features": ["temp", "temp"]}',
    b'{"entities": {"origin": ["JFK"]}, "history": 0}',
    b'{"entities": {"origin": ["JFK"]}, "history": 1e99}',
    b'{"entities": {"origin": ["JFK"]}, "surprise": 1}',
)
VALUES = {
    "nul": '"a\\u0000b"',
    "half a character": '"\\ud800"',
    "huge integer": "9" * 400,
    "nan": "NaN",
    "object": '{"a": 1}',
    "list": "[1, 2]",
    "null": "null",
    "deep": "[" * 700 + "]" * 700,
    "long": '"' + "x" * 100_000 + '"',
}


@pytest.fixture
def headers(entities) -> dict[str, str]:
    return {"authorization": f"Bearer {entities._control.gateway_token()}", "x-release": RELEASE}


@pytest.mark.parametrize("value", VALUES)
def test_a_feature_read_of_a_hostile_key_is_answered_or_refused(bench: Bench, headers, value: str) -> None:
    body = f'{{"entities": {{"origin": [{VALUES[value]}]}}}}'
    answer = httpx.post(f"{bench.url}/v2/features/delay", content=body, headers=headers)
    assert answer.status_code in (200, 400), answer.text
    assert answer.status_code == 200 or (answer.json()["remedy"] and answer.json()["error"])


@pytest.mark.parametrize("value", VALUES)
def test_a_prediction_by_a_hostile_key_is_answered_or_refused(bench: Bench, headers, value: str) -> None:
    given = f'{{"name": "origin", "datatype": "BYTES", "shape": [1], "data": [{VALUES[value]}]}}'
    body = f'{{"inputs": [{given}]}}'
    answer = httpx.post(f"{bench.url}/v2/models/late/infer", content=body, headers=headers)
    assert answer.status_code in (200, 400, 404), answer.text
    assert answer.status_code == 200 or answer.json()["error"]


@pytest.mark.parametrize("name", VALUES)
def test_an_input_of_a_hostile_name_is_refused(bench: Bench, headers, name: str) -> None:
    given = f'{{"name": {VALUES[name]}, "datatype": "BYTES", "shape": [1], "data": ["JFK"]}}'
    answer = httpx.post(f"{bench.url}/v2/models/late/infer", content=f'{{"inputs": [{given}]}}', headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


@pytest.mark.parametrize("body", BROKEN)
def test_a_feature_read_with_a_broken_body_is_refused(bench: Bench, headers, body: bytes) -> None:
    answer = httpx.post(f"{bench.url}/v2/features/delay", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.json()["remedy"]
    assert answer.json()["error"]


@pytest.mark.parametrize("left", ["9" * 400, "-1", "soon", "²"])
def test_a_deadline_that_is_none_is_the_usual_one(bench: Bench, headers, left: str) -> None:
    body = {
        "inputs": [
            {"name": "origin", "datatype": "BYTES", "shape": [1, 1], "data": ["JFK"]},
            {"name": "distance", "datatype": "FP64", "shape": [1, 1], "data": [0.5]},
        ]
    }
    sent = headers | {"x-envoy-expected-rq-timeout-ms": left.encode("latin-1")}
    assert httpx.post(f"{bench.url}/v2/models/late/infer", json=body, headers=sent).status_code == 200


@pytest.mark.parametrize("key", [b"", b"guessed", b"\xff\xfe"])
def test_rows_are_written_with_the_control_planes_key_alone(bench: Bench, key: bytes) -> None:
    answer = httpx.post(f"{bench.url}/internal/v1/rows", content=b"{}", headers={"x-themisto-key": key})
    assert answer.status_code == 403, answer.text
