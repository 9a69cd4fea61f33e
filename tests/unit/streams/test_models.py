"""Which streams may be declared."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from themisto_hub.settings import Deployment
from themisto_hub.streams.models import Stream

CREDIT = {"name": "credit", "endpoint": "credit", "input": "credit.requests", "output": "credit.answers"}


def test_group_has_a_default():
    assert Stream(**CREDIT).consumer_group == "themisto-credit"
    assert Stream(**CREDIT, group="scoring").consumer_group == "scoring"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Credit"},
        {"endpoint": "credit/../x"},
        {"input": "no spaces"},
        {"input": ".."},
        {"output": ""},
        {"output": "credit.requests"},
        {"in_flight": 0},
        {"window": -1},
        {"timeout_s": float("nan")},
        {"typo": 1},
    ],
)
def test_wrong_stream_is_refused(change):
    with pytest.raises(ValidationError):
        Stream(**CREDIT | change)


def test_streams_are_declared_by_environment(monkeypatch):
    monkeypatch.setenv("THEMISTO_KAFKA", "127.0.0.1:9092")
    monkeypatch.setenv("THEMISTO_STREAMS", json.dumps([CREDIT]))
    assert Deployment().streams == (Stream(**CREDIT),)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, "two streams are called 'credit'"),
        ({"name": "other", "input": "x"}, "two streams write to 'credit.answers'"),
        ({"name": "other", "output": "x", "group": "themisto-credit"}, "two streams read 'credit.requests'"),
    ],
)
def test_streams_that_clash_are_refused(other, said):
    with pytest.raises(ValidationError, match=said):
        Deployment(kafka="127.0.0.1:9092", streams=(Stream(**CREDIT), Stream(**CREDIT | other)))


def test_streams_without_kafka_are_refused():
    with pytest.raises(ValidationError, match="THEMISTO_KAFKA"):
        Deployment(streams=(Stream(**CREDIT),))
