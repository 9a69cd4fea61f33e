"""Streams log in at a real Kafka by password, in the open and under its own CA; what does not fit is told in words."""

from __future__ import annotations

import json

import pytest
from tests.integration.gateway.parts import wait_until
from tests.integration.streams.conftest import state_of
from tests.integration.streams.kafka.secured import PASSWORD, USER, SecuredKafkaNode
from tests.integration.streams.topics import body, send, wait_for

WRONG = "wrong-horse-battery"


@pytest.fixture(scope="module")
def secured(kafka, tmp_path_factory):
    node = SecuredKafkaNode(tmp_path_factory.mktemp("secured"))
    with node as plain:
        yield node, plain


@pytest.fixture
def stream(bench, secured):
    return bench.declare(kafka=secured[1])


def login(node, protocol, **more):
    """The environment of a consumer that logs in."""
    key = {
        "security.protocol": protocol,
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": USER,
        "sasl.password": PASSWORD,
        **({"ssl.ca.location": str(node.ca)} if protocol == "SASL_SSL" else {}),
    }
    key = {name: value for name, value in (key | more).items() if value is not None}
    return {"THEMISTO_KAFKA": node.servers[protocol], "THEMISTO_KEY_KAFKA": json.dumps(key)}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_requests_are_answered_after_a_login(bench, secured, stream, running, protocol):
    node, plain = secured
    running(stream, **login(node, protocol))
    send(plain, stream.input, [(f"r-{number}", None, body(number)) for number in range(20)])
    answers = wait_for(plain, stream.output, 20)
    assert {answer.id for answer in answers} == {f"r-{number}" for number in range(20)}
    assert not any(answer.failed for answer in answers)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("protocol", "change", "says"),
    [
        ("SASL_PLAINTEXT", {"sasl.password": WRONG}, "Kafka refuses the login."),
        ("SASL_PLAINTEXT", {"sasl.mechanism": "PLAIN"}, "Kafka refuses the login."),
        ("SASL_SSL", {"sasl.password": WRONG}, "Kafka refuses the login."),
        ("SASL_SSL", {"ssl.ca.location": None}, "its certificate is not trusted"),
    ],
)
def test_login_that_does_not_fit_is_told_without_a_secret(bench, secured, stream, running, protocol, change, says):
    node, _ = secured
    process, page = running(stream, **login(node, protocol, **change))
    wait_until(lambda: says in state_of(page)["problem"], "the stream says why it does not go on")
    assert "THEMISTO_KEY_KAFKA" in state_of(page)["problem"]
    process.stop()
    (log,) = [file.read_text() for file in bench.state.glob(f"{stream.name}-*.log")]
    assert says in log
    assert WRONG not in log
    assert PASSWORD not in log
