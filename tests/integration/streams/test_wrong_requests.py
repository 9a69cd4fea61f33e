"""Requests that cannot be answered get an error and hold up nobody."""

from __future__ import annotations

import random

from tests.integration.streams.conftest import metric
from tests.integration.streams.topics import body, read_all, send, wait_for

WRONG = {
    "no-json": (b"{nope", 400),
    "other-shape": (body(1).replace(b"[1, 1]", b"[2, 1]"), 400),
    "unknown-input": (body(1).replace(b'"x"', b'"other"'), 400),
    "no-value": (None, 400),
    "empty": (b"", 400),
    "nested": (b"[" * 50_000, 400),
    "too-long": (b" " * (9 * 2**20), 413),
}


def limit_records(bench, topic, longest):
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

    entry = ConfigEntry("max.message.bytes", str(longest), incremental_operation=AlterConfigOpType.SET)
    admin = bench.admin
    changed = admin.incremental_alter_configs([ConfigResource("topic", topic, incremental_configs=[entry])])
    for future in changed.values():
        future.result(30)


def test_each_is_answered_by_an_error_and_the_next_one_goes_on(bench, running):
    stream = bench.declare()
    limit_records(bench, stream.input, 2 * 10**7)
    records = [(name, b"same", value) for name, (value, _) in WRONG.items()]
    _, page = running(stream)
    send(bench.kafka, stream.input, [*records, ("two words", b"same", body(1)), ("good", b"same", body(1))])
    answers = wait_for(bench.kafka, stream.output, len(WRONG) + 2)
    found = {answer.id: answer for answer in answers}
    for name, (_, status) in WRONG.items():
        assert found[name].headers["status"] == str(status), name
        assert list(found[name].value) == ["error"], name
        assert found[name].value["error"], name
    (nameless,) = [answer for answer in answers if answer.id == answer.headers["request"]]
    assert "request-id" in nameless.value["error"]
    assert answers[-1].id == "good"
    assert answers[-1].headers["status"] == "200"
    assert (metric(page, "errors_total"), metric(page, "answered_total")) == (len(WRONG) + 1, 1)


def test_endpoint_that_does_not_exist_is_404(bench, running):
    stream = bench.declare(endpoint="nobody")
    send(bench.kafka, stream.input, [("r-1", None, body(1))])
    running(stream)
    (answer,) = wait_for(bench.kafka, stream.output, 1)
    assert answer.headers["status"] == "404"
    assert "release" not in answer.headers


def test_answer_that_the_topic_does_not_take_is_an_error(bench, running):
    """One that is too long takes nobody with it that was sent beside it, though together they are too long as well."""
    stream = bench.declare()
    limit_records(bench, stream.output, 1000)
    rows = [str(random.Random(n).random())[:10].encode() for n in range(60)]
    long = body(1).replace(b"[1, 1]", b"[60, 1]").replace(b"[1]", b"[%s]" % b",".join(rows))
    numbers = range(10)
    short = [(f"short-{n}-{random.Random(n).getrandbits(256):x}", b"k", body(n)) for n in numbers]
    send(bench.kafka, stream.input, [*short[:5], ("long", b"k", long), ("longer", b"k", long), *short[5:]])
    running(stream)
    answers = wait_for(bench.kafka, stream.output, 12)
    assert [answer.id for answer in answers if answer.headers["status"] == "413"] == ["long", "longer"]
    assert [answer.value["outputs"][0]["data"] for answer in answers if not answer.failed] == [[n + 1] for n in numbers]


def test_stream_without_its_topic_says_so_and_begins_when_it_is_there(bench, running):
    from confluent_kafka.admin import NewTopic
    from tests.integration.streams.conftest import state_of

    stream = bench.declare()
    gone = stream.model_copy(update={"output": f"{stream.output}.later"})
    _, page = running(gone)
    while "later" not in state_of(page)["problem"]:
        pass
    admin = bench.admin
    admin.create_topics([NewTopic(gone.output, 4, 1)])[gone.output].result(30)
    send(bench.kafka, gone.input, [("r-1", None, body(1))])
    assert wait_for(bench.kafka, gone.output, 1)
    assert read_all(bench.kafka, stream.output) == []
