"""Requests that no document describes: hostile values in a release that is otherwise right, and hostile HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.security.conftest import MEMBER, Plane

from themisto.serving.models import Release
from themisto_hub.control.app import PREFIX
from themisto_hub.control.idempotency import Idempotency

JSON = {"content-type": "application/json"}
HOSTILE = {
    "nul": '"a\\u0000b"',
    "half a character": '"\\ud800"',
    "huge integer": "9" * 400,
    "negative": "-9223372036854775809",
    "nan": "NaN",
    "infinite": "1e999",
    "deep": "[" * 500 + "]" * 500,
    "deeper than the parser": "[" * 100_000 + "]" * 100_000,
    "object": '{"__proto__": {"x": 1}, "$ref": "file:///etc/passwd"}',
    "null": "null",
    "long": json.dumps("x" * 300_000),
}
FIELDS = (
    *("group", "tier", "profile", "run_id", "cell", "personal", "feature_service", "slo", "artifact"),
    *("artifact.size_bytes", "artifact.sha256", "signature.inputs.0.name", "signature.inputs.0.shape"),
    *("serving.max_batch", "serving.instances", "serving.warmup", "fallback.default", "metrics.auc", "parameters.p"),
    *("golden.inputs", "golden.inputs.x", "golden.outputs.y.0", "golden.rtol"),
    *("rollout.steps", "rollout.dwell_s", "rollout.weight_pct", "rollout.tolerated"),
)
ADDRESSES = (
    f"/endpoints/credit/releases/{'9' * 30}",
    f"/endpoints/credit/releases?after={'9' * 30}",
    f"/audit?after={'9' * 30}",
    f"/audit?object={'x' * 3000}",
    "/audit?object=%00",
    "/endpoints?after=%00",
    "/endpoints?limit=5&limit=many",
    "/endpoints?limit=-1",
    "/endpoints/%00",
    "/endpoints/%ED%A0%80",
    "/endpoints/..%2f..%2fetc%2fpasswd",
    "/endpoints/credit/predictions?after=%00",
    "/endpoints/credit/predictions?since=0001-01-01T00:00:00%2B14:00",
    "/endpoints/credit/predictions?until=9999-12-31T23:59:59-14:00",
    f"/endpoints/credit/predictions?since={'9' * 20}",
    "/schedules?after=%FF",
    "/features/views/credit?group=%00",
    "/features/services/credit@999999999",
)
TOKENS = {
    "not ascii": b"token \xff\xfe",
    "two words": b"token a b",
    "long": b"token " + b"x" * 30_000,
}


def with_value(release: dict[str, Any], path: str, value: str) -> bytes:
    """The release as JSON, with the raw `value` at the dotted `path`."""
    *way, last = (int(part) if part.isdigit() else part for part in path.split("."))
    at: Any = release
    for part in way:
        if at[part] is None:
            at[part] = {}
        at = at[part]
    at[last] = "@here@"
    return json.dumps(release).replace('"@here@"', value).encode()


def assert_clear(answer: httpx.Response) -> None:
    """A success, or a refusal that says what to do."""
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        assert answer.json()["detail"], answer.text
        assert answer.json()["remedy"], answer.text


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("path", FIELDS)
def test_a_release_with_a_hostile_value_is_refused_or_can_be_read_back(plane: Plane, path: str, kind: str) -> None:
    body = with_value(plane.release(), path, HOSTILE[kind])
    answer = plane.http.post("/endpoints/other/releases", content=body, headers=JSON)
    assert_clear(answer)
    if answer.is_success:
        Release.model_validate_json(plane.http.get(f"/endpoints/other/releases/{answer.json()['number']}").content)
        assert plane.http.get("/endpoints/other/diff").status_code in (200, 404)
        assert_clear(plane.http.post("/endpoints/other/rollback"))


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_hostile_address_is_answered_clearly(plane: Plane, address: str) -> None:
    assert_clear(plane.http.get(address))


@pytest.mark.parametrize("kind", TOKENS)
def test_a_hostile_token_is_nobody(plane: Plane, kind: str) -> None:
    answer = plane.http.get("/whoami", headers={"Authorization": TOKENS[kind]})
    assert answer.status_code == 401, answer.text
    assert answer.json()["remedy"]


@pytest.mark.parametrize(
    "kind", ["application/xml", "text/plain", "application/json; charset=utf-16", "multipart/form-data", ""]
)
def test_a_body_of_another_media_type_is_answered_clearly(plane: Plane, kind: str) -> None:
    content = b'{"group": "data-science"}'
    assert_clear(plane.http.post("/endpoints/credit/claim", content=content, headers={"content-type": kind}))


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"group": "x", "group": "y"}', b"[" * 200_000]
)
def test_a_body_that_is_no_group_is_refused(plane: Plane, body: bytes) -> None:
    answer = plane.http.post("/endpoints/credit/claim", content=body, headers=JSON)
    assert answer.status_code in (400, 403, 422), answer.text
    assert_clear(answer)


@pytest.mark.parametrize("key", [b"x" * 20_000, b"\xff\xfe", b"a\tb"])
def test_a_hostile_idempotency_key_is_a_key_like_others(plane: Plane, key: bytes) -> None:
    for _ in range(2):
        answer = plane.http.post(
            "/endpoints/idem/claim", json={"group": "data-science"}, headers={"idempotency-key": key}
        )
        assert answer.status_code == 200, answer.text


def test_the_same_key_with_another_query_is_another_request(plane: Plane) -> None:
    key = {"idempotency-key": "one"}
    assert plane.http.post("/endpoints/credit/claim?a=1", json={"group": "data-science"}, headers=key).is_success
    answer = plane.http.post("/endpoints/credit/claim?a=2", json={"group": "data-science"}, headers=key)
    assert answer.status_code == 422, answer.text


def test_a_body_cut_short_is_not_acted_upon(plane: Plane) -> None:
    """Whole JSON, but its rest never came."""
    reached: list[object] = []
    came = iter([{"type": "http.request", "body": b"{}", "more_body": True}, {"type": "http.disconnect"}])

    async def app(*given: object) -> None:
        reached.append(given)

    async def receive() -> Any:
        return next(came)

    async def send(message: Any) -> None:
        reached.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": [(b"idempotency-key", b"1")],
    }
    asyncio.run(Idempotency(app, plane.control)(scope, receive, send))
    assert not reached


@pytest.mark.parametrize("length", ["-1", "ten", "1, 2", "9" * 30])
def test_a_wrong_length_is_refused(plane: Plane, length: str) -> None:
    at = urlsplit(plane.url)
    lines = [f"PUT {at.path}{PREFIX}/api/v1/artifacts/{'0' * 64} HTTP/1.1", "Host: x", f"Content-Length: {length}"]
    lines += [f"Authorization: {MEMBER['Authorization']}", "", ""]
    with socket.create_connection((at.hostname, at.port), timeout=10) as line:
        line.sendall("\r\n".join(lines).encode())
        assert line.recv(4096).split()[1] in (b"400", b"422")


def test_the_chain_holds_after_all_of_it(plane: Plane) -> None:
    assert plane.http.get("/audit/verify").json()["intact"]
