"""Which answers are final, which are waited for, and that waiting ends when nobody wants the answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest

from themisto.errors import Unavailable
from themisto_hub.streams.asking import Abandoned, Asker
from themisto_hub.streams.models import Stream
from themisto_hub.streams.records import Request

STREAM = Stream(name="credit", endpoint="credit", input="in", output="out", timeout_s=5)


class Token:
    """A control plane's, with nobody behind it."""

    def __init__(self) -> None:
        self.given, self.away = 1, False

    def get(self) -> str:
        if self.away:
            raise Unavailable("The control plane does not answer.")
        return f"token-{self.given}"

    def forget(self, token: str) -> None:
        assert token == f"token-{self.given}"
        self.given += 1


@pytest.fixture
def reasons() -> list[str]:
    return []


@pytest.fixture
def token() -> Token:
    return Token()


@pytest.fixture
def asker(told, token: Token, reasons: list[str]) -> Iterator[Asker]:
    asker = Asker(STREAM, told.url, token, reasons.append)
    yield asker
    asker.close()


def request(**fields):
    return Request(**({"topic": "in", "partition": 0, "offset": 7, "id": "r-1", "key": b"c-1", "body": b"{}"} | fields))


OK = (200, b'{"outputs":[]}', {"x-release": "credit@7"})


def test_answer_names_its_release(asker, told):
    told.script = [OK]
    answer = asker.ask(request(), threading.Event())
    assert (answer.status, answer.release, answer.body) == (200, "credit@7", b'{"outputs":[]}')
    assert answer.latency_ms > 0
    (asked,) = told.asked
    assert asked["path"] == "/v2/models/credit/infer"
    assert (asked["x-request-id"], asked["themisto-key"]) == ("r-1", "c-1")
    assert asked["themisto-timeout-ms"] == "5000"


def test_without_a_key_no_key_is_told(asker, told):
    told.script = [OK]
    asker.ask(request(key=None), threading.Event())
    assert "themisto-key" not in told.asked[0]


@pytest.mark.parametrize("status", [401, 403, 429, 502, 503])
def test_what_says_nothing_of_the_request_is_tried_again(asker, told, reasons, status):
    told.script = [(status, b"", {})] * 4 + [OK]
    assert asker.ask(request(), threading.Event()).status == 200
    assert reasons == [f"The gateway answered HTTP {status}."] * 4


def test_token_that_is_not_taken_is_asked_for_anew(asker, told):
    told.script = [(401, b"", {}), OK]
    asker.ask(request(), threading.Event())
    assert [asked["authorization"] for asked in told.asked] == ["Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize("status", [400, 404, 413])
def test_requests_own_fault_is_its_answer_at_once(asker, told, status):
    told.script = [(status, b'{"error":"unexpected shape"}', {})]
    answer = asker.ask(request(), threading.Event())
    assert (answer.status, answer.body) == (status, b'{"error":"unexpected shape"}')
    assert len(told.asked) == 1


@pytest.mark.parametrize("status", [408, 500, 504])
def test_what_may_be_its_own_fault_is_tried_three_times(asker, told, status):
    told.script = [(status, b"<html>", {})]
    answer = asker.ask(request(), threading.Event())
    assert answer.status == status
    assert json.loads(answer.body) == {"error": f"The gateway answered HTTP {status}."}
    assert len(told.asked) == 3


def test_binary_answer_is_refused(asker, told):
    told.script = [(200, b"{}\0\0", {"inference-header-content-length": "2"})]
    answer = asker.ask(request(), threading.Event())
    assert answer.status == 400
    assert "binary" in json.loads(answer.body)["error"]


def test_problem_of_the_record_is_its_answer_and_nobody_is_asked(asker, told):
    answer = asker.ask(request(problem="The record has no value."), threading.Event())
    assert json.loads(answer.body) == {"error": "The record has no value."}
    assert told.asked == []


def test_nobody_waits_for_an_answer_that_is_not_wanted(told, token, asker):
    token.away = True
    abandoned, ended = threading.Event(), threading.Event()

    def ask():
        with pytest.raises(Abandoned):
            asker.ask(request(), abandoned)
        ended.set()

    threading.Thread(target=ask, daemon=True).start()
    time.sleep(0.3)
    assert not ended.is_set()
    abandoned.set()
    assert ended.wait(5)
    assert told.asked == []
