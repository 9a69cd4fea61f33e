"""What the consumer brings is taken if it begins where the record ends, else refused whole; nobody else brings any."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError

import themisto
from themisto.errors import Refused
from themisto.types import utcnow
from themisto_hub.control.app import PREFIX, create_app
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.features import streaming
from themisto_hub.control.features.topics import is_allowed
from themisto_hub.settings import Deployment, Keys

KEY = {"x-feature-streams-key": "right"}
AUTHOR = Caller(name="ada", groups=("risk",), scopes=frozenset({"features:write"}))


class Online:
    """An online store that takes everything."""

    def write(self, *_: Any) -> None:
        pass

    erase = write


@pytest.fixture
def control(tmp_path) -> Control:
    settings = Deployment(
        state=tmp_path, port=31900, kafka="127.0.0.1:9", feature_topics={"risk": ["payments", "cards.*"]}
    )
    settings.folder("control").mkdir()
    control = Control(settings, Keys(feature_streams=SecretStr("right")))
    control.features.__dict__["_online"] = Online()
    return control


@pytest.fixture
def client(control: Control) -> Iterator[TestClient]:
    with TestClient(create_app(control, workers=()), raise_server_exceptions=False) as client:
        control.features.registry.put_view(AUTHOR, "risk", view())
        yield client


def view(**more: Any) -> themisto.FeatureView:
    given = {"features": {"x": "float64"}, "stream": "payments"} | more
    return themisto.FeatureView("spending", entity=themisto.Entity("customer", keys=["who"]), at="at", **given)


def send(client: TestClient, since: int | None, following: int, poison: int = 0, **more: Any) -> Any:
    body = {
        "topic": "payments",
        "version": 1,
        "stretches": [{"partition": 0, "since": since, "next": following}],
        "poison": [
            {"partition": 0, "offset": following - 1 - n, "size_bytes": 1, "reason": "it is no JSON"}
            for n in range(poison)
        ],
    } | more
    url = f"{PREFIX}/api/v1/feature-streams/risk/spending/rows"
    return client.post(url, content=json.dumps(body).encode() + b"\n", headers=KEY)


def places(client: TestClient) -> dict[str, int]:
    return client.get(f"{PREFIX}/api/v1/feature-streams/risk/spending/places?version=1", headers=KEY).json()


def test_batch_moves_on_once(client: TestClient, control: Control) -> None:
    assert places(client) == {}
    assert send(client, None, 5, poison=2).status_code == 200
    assert places(client) == {"0": 5}
    for since, following in ((None, 5), (3, 9), (6, 9)):
        assert send(client, since, following, poison=1).status_code == 409
    assert places(client) == {"0": 5}
    assert send(client, 5, 9).status_code == 200
    assert places(client) == {"0": 9}
    assert [p.offset for p in control.features.streaming.poison("risk", "spending", 10)] == [4, 3]


def test_message_that_is_read_again_is_one_in_the_quarantine(client: TestClient, control: Control) -> None:
    send(client, None, 5, poison=2)
    send(client, 5, 0)  # the topic was made anew
    send(client, 0, 5, poison=2)
    assert len(control.features.streaming.poison("risk", "spending", 10)) == 2
    shown = control.features.registry.view("risk", "spending").freshness
    assert shown is not None
    assert shown.stream is not None
    assert shown.stream.poisoned == shown.quarantined == 2


def test_quarantine_of_messages_is_bounded_and_all_are_counted(client, control, monkeypatch) -> None:
    monkeypatch.setattr(streaming, "KEPT_POISON", 3)
    moments = iter(utcnow() + timedelta(seconds=n) for n in range(1000))
    monkeypatch.setattr(control, "clock", lambda: next(moments))
    send(client, None, 2, poison=2)
    send(client, 2, 4, poison=2)
    send(client, 4, 6, poison=2)
    kept = [p.offset for p in control.features.streaming.poison("risk", "spending", 10)]
    assert kept[:3] == [5, 4, 3]
    assert len(kept) <= 4
    assert control.features.registry.view("risk", "spending").freshness.stream.poisoned == 6


@pytest.mark.parametrize("more", [{"version": 2}, {"topic": "cards.eu"}])
def test_batch_for_another_definition_is_refused(client: TestClient, more: dict[str, Any]) -> None:
    assert send(client, None, 5, **more).status_code == 409
    assert places(client) == {}


def test_body_that_is_no_batch_is_refused(client: TestClient) -> None:
    url = f"{PREFIX}/api/v1/feature-streams/risk/spending/rows"
    for body in (b"", b"{}", b"\xff\n", b'{"topic": 1}\nPAR1'):
        assert client.post(url, content=body, headers=KEY).status_code == 422
    good = {"topic": "payments", "version": 1, "stretches": [{"partition": 0, "since": None, "next": 1}]}
    answer = client.post(url, content=json.dumps(good).encode() + b"\nno parquet", headers=KEY)
    assert answer.status_code == 422
    assert places(client) == {}


@pytest.mark.parametrize("path", ["report", "risk/spending/places", "risk/spending/rows"])
def test_only_the_consumer_on_this_machine_asks(client: TestClient, path: str) -> None:
    url = f"{PREFIX}/api/v1/feature-streams/{path}"
    method = "GET" if path.endswith("places") else "POST"
    assert client.request(method, url).status_code == 403
    assert client.request(method, url, headers={"x-feature-streams-key": "wrong"}).status_code == 403
    assert client.request(method, url, headers=KEY | {"x-forwarded-for": "1.2.3.4"}).status_code == 404


def test_what_was_heard_is_shown_and_silence_too(client: TestClient, control: Control, monkeypatch) -> None:
    def problem() -> str:
        stream = control.features.registry.freshness("risk")[0].stream
        assert stream is not None
        return stream.problem

    assert problem() == "It has not begun."
    states = [{"name": "risk/spending", "lag": 3, "partitions": 1, "problem": "Kafka does not answer."}]
    answer = client.post(f"{PREFIX}/api/v1/feature-streams/report", json={"states": states}, headers=KEY)
    assert [(f["group"], f["view"]["name"], f["view"]["version"]) for f in answer.json()] == [("risk", "spending", 1)]
    assert problem() == "Kafka does not answer."
    monkeypatch.setattr(control, "clock", lambda: utcnow() + timedelta(minutes=1))
    assert problem().startswith("Its consumer was last heard of at ")


def test_topic_that_is_taken_from_the_group_is_read_no_more(client: TestClient, control: Control) -> None:
    control.settings = control.settings.model_copy(update={"feature_topics": {}})
    assert control.features.streaming.flows() == []
    assert send(client, None, 5).status_code == 404
    stream = control.features.registry.freshness("risk")[0].stream
    assert stream is not None
    assert stream.problem == "The group may not read the topic 'payments' any more."


def test_attaching_what_is_not_allowed_writes_nothing(client: TestClient, control: Control) -> None:
    with pytest.raises(Refused, match="may not read the topic 'salaries'"):
        control.features.registry.put_view(AUTHOR, "risk", view(stream="salaries"))
    assert control.features.registry.view("risk", "spending").view.version == 1


@pytest.mark.parametrize(
    ("group", "topic", "allowed"),
    [
        ("risk", "payments", True),
        ("risk", "payments2", False),
        ("risk", "cards.eu", True),
        ("risk", "cards", False),
        ("other", "payments", False),
    ],
)
def test_topics_are_allowed_by_name_or_beginning(control: Control, group: str, topic: str, allowed: bool) -> None:
    assert is_allowed(control.settings, group, topic) == allowed


@pytest.mark.parametrize(
    "wrong", [{"kafka": None}, {"feature_topics": {"risk": ["a*b"]}}, {"feature_topics": {"R": []}}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], tmp_path) -> None:
    given = {"kafka": "127.0.0.1:9", "feature_topics": {"risk": ["payments"]}} | wrong
    with pytest.raises(ValidationError):
        Deployment(state=tmp_path, **given)
