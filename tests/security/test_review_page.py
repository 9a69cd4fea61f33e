"""Hostile requests to the review page: a page that says what is wrong, never a failure, and nothing decided."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from tests.security.conftest import Plane

from themisto_hub.control.review import create_review_app


@pytest.fixture
def page(plane: Plane) -> Iterator[TestClient]:
    with TestClient(
        create_review_app(plane.control), base_url=plane.control.settings.review_url, raise_server_exceptions=False
    ) as client:
        yield client


@pytest.mark.parametrize(
    "address",
    [
        "/approve/%00",
        "/approve/..%2f..",
        "/approve/<script>",
        f"/approve/{'0' * 5000}",
        "/nothing",
        "/static/../app.py",
    ],
)
def test_an_address_of_nothing_is_a_page_that_says_so(page: TestClient, address: str) -> None:
    answer = page.get(address)
    assert answer.status_code == 404
    assert "<script>" not in answer.text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost.evil.example", "a b"])
def test_a_request_for_another_host_is_refused(page: TestClient, host: str) -> None:
    assert page.get("/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("query", ["", "?code=x&state=y", "?error=%3Cscript%3E", "?state=%00&code=%FF"])
@pytest.mark.parametrize("cookie", ["", "themisto-review=forged", "themisto-review=e30=.x.y"])
def test_a_login_that_was_not_begun_here_is_refused(page: TestClient, query: str, cookie: str) -> None:
    answer = page.get(f"/callback{query}", headers={"cookie": cookie} if cookie else {})
    assert answer.status_code == 403
    assert "<script>" not in answer.text


FORMS = {
    "nothing": {},
    "no ticket": {"decision": "approve"},
    "forged ticket": {"decision": "approve", "ticket": "0" * 64},
    "long ticket": {"decision": "approve", "ticket": "x" * 50_000},
    "nul": {"decision": "approve", "ticket": "\0", "reason": "\0"},
    "other decision": {"decision": "<script>", "ticket": "x"},
    "too long": {"decision": "refuse", "ticket": "x", "reason": "x" * 70_000},
    "many fields": {f"f{n}": "x" for n in range(20)},
}


@pytest.mark.parametrize("kind", FORMS)
def test_a_hostile_form_decides_nothing(page: TestClient, plane: Plane, kind: str) -> None:
    answer = page.post("/decide", data=FORMS[kind], headers={"origin": plane.control.settings.review_url})
    assert 400 <= answer.status_code < 500, answer.text
    assert "<script>" not in answer.text


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/json", "multipart/form-data", "multipart/form-data; boundary=x"]
)
def test_a_form_of_another_media_type_decides_nothing(page: TestClient, plane: Plane, kind: str) -> None:
    headers = {"origin": plane.control.settings.review_url, "content-type": kind}
    answer = page.post("/decide", content=b"decision=approve&ticket=x", headers=headers)
    assert 400 <= answer.status_code < 500, answer.text
