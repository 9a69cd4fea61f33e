"""What a producer may have put into a record, and what a reader finds in its answer."""

from __future__ import annotations

import json

import pytest
from confluent_kafka import Message

from themisto_hub.streams.records import Answer, answered_id, refusal, request_of

BODY = b'{"inputs":[]}'


def record(*, headers=None, key=b"customer-1", value=BODY):
    return Message(topic="credit.requests", partition=3, offset=1842, key=key, value=value, headers=headers)


def test_request_id_is_the_headers():
    request = request_of(record(headers=[("trace", b"x"), ("request-id", b"r-1")]))
    assert (request.id, request.problem, request.body) == ("r-1", "", BODY)


def test_without_a_header_the_place_is_the_id():
    assert request_of(record()).id == "credit.requests/3/1842"


@pytest.mark.parametrize(
    "headers",
    [
        [("request-id", b"")],
        [("request-id", None)],
        [("request-id", b"two words")],
        [("request-id", "é".encode())],
        [("request-id", b"line\nbreak")],
        [("request-id", b"x" * 201)],
        [("request-id", b"r-1"), ("request-id", b"r-2")],
    ],
)
def test_wrong_request_id_is_a_problem_and_the_place_is_the_id(headers):
    request = request_of(record(headers=headers))
    assert request.id == "credit.requests/3/1842"
    assert "request-id" in request.problem


@pytest.mark.parametrize("value", [None, b""])
def test_no_value_is_a_problem(value):
    request = request_of(record(headers=[("request-id", b"r-1")], value=value))
    assert (request.id, request.problem) == ("r-1", "The record has no value.")


@pytest.mark.parametrize(
    ("key", "sticky"),
    [
        (None, None),
        (b"", None),
        (b"customer-1", "customer-1"),
        (b"two words", "two words"),
        (b" padded ", "2070616464656420"),
        (b"\x00\xff", "00ff"),
        ("é".encode(), "c3a9"),
        (b"a\r\nhost: x", "610d0a686f73743a2078"),
    ],
)
def test_key_goes_on_as_a_header_can_hold_it(key, sticky):
    assert request_of(record(key=key)).sticky_key == sticky


def test_answer_says_whose_it_is_and_who_gave_it():
    answer = Answer(request_of(record(headers=[("request-id", b"r-1")])), 200, b"{}", "credit@7", latency_ms=1.5)
    assert dict(answer.headers) == {
        "request-id": b"r-1",
        "request": b"credit.requests/3/1842",
        "status": b"200",
        "release": b"credit@7",
        "latency-ms": b"1.500",
    }
    assert not answer.failed


def test_refusal_is_the_protocols_error():
    answer = refusal(request_of(record()), 400, 'It says "no".')
    assert json.loads(answer.body) == {"error": 'It says "no".'}
    assert answer.failed


def test_answer_is_known_again_by_its_header():
    answer = refusal(request_of(record(headers=[("request-id", b"r-1")])), 400, "No.")
    assert answered_id(record(headers=answer.headers)) == "r-1"


def test_what_is_no_answer_of_ours_names_no_request():
    assert answered_id(record()) is None
