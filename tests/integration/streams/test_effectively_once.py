"""Whatever dies or comes along meanwhile: one committed answer a request id, in the order of each key's requests."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter, defaultdict

import pytest
from tests.integration.streams.conftest import metric, state_of
from tests.integration.streams.topics import body, read_all, send, wait_for

KEYS = 40


def requests(numbers, seed):
    """(id, key, value) of each number, every fifth twice: at once, or some requests later."""
    chance, found, late = random.Random(seed), [], []
    for number in numbers:
        record = (f"r-{number}", f"customer-{number % KEYS}".encode(), body(number))
        found.append(record)
        if number % 5 == 0:
            (found if chance.random() < 0.5 else late).append(record)
        if len(late) > 20:
            found.append(late.pop(0))
    return found + late


def assert_each_once_and_in_order(answers, count):
    assert len(answers) == count
    assert Counter(answer.id for answer in answers) == Counter(f"r-{number}" for number in range(count))
    by_key = defaultdict(list)
    for answer in answers:
        (y,) = answer.value["outputs"][0]["data"]
        number = int(answer.id.removeprefix("r-"))
        assert y == number + 1
        assert answer.key == f"customer-{number % KEYS}".encode()
        assert answer.headers["release"] == "credit@1"
        by_key[answer.key].append(number)
    for key, numbers in by_key.items():
        assert numbers == sorted(numbers), key


@pytest.mark.timeout(300)
def test_kill_a_second_consumer_and_a_gateway_that_is_away(bench, running):
    stream = bench.declare(in_flight=8)
    send(bench.kafka, stream.input, requests(range(600), seed=1))
    first, page = running(stream)
    while metric(page, "answered_total") < 50:
        time.sleep(0.005)
    first.stop(signal.SIGKILL)
    assert 0 < len(read_all(bench.kafka, stream.output)) < 600, "killed in the middle"

    _, page = running(stream)
    more = threading.Thread(target=send, args=(bench.kafka, stream.input, requests(range(600, 1000), seed=2)))
    more.start()
    before = len(wait_for(bench.kafka, stream.output, 60))
    bench.envoy.stop()
    _, second = running(stream)
    time.sleep(5)
    more.join()
    assert len(read_all(bench.kafka, stream.output)) <= max(before, 999), "not done while the gateway is away"
    bench.envoy.start(bench.envoy_ready)

    wait_for(bench.kafka, stream.output, 1000, timeout_s=120)
    wait_until_idle(page, second)
    assert_each_once_and_in_order(read_all(bench.kafka, stream.output), 1000)
    assert state_of(page)["partitions"] + state_of(second)["partitions"] == 4
    assert state_of(second)["partitions"] == 2


def wait_until_idle(*pages):
    until = time.monotonic() + 40
    while any(state_of(page)["lag"] != 0 for page in pages):
        assert time.monotonic() < until, [state_of(page) for page in pages]
        time.sleep(0.2)


def test_request_that_comes_again_after_a_restart_is_dropped(bench, running):
    stream = bench.declare()
    once = [(f"r-{number}", b"customer-1", body(number)) for number in range(20)]
    send(bench.kafka, stream.input, once)
    first, _ = running(stream)
    wait_for(bench.kafka, stream.output, 20)
    first.stop()
    send(bench.kafka, stream.input, [*once, ("r-20", b"customer-1", body(20))])
    _, page = running(stream)
    answers = wait_for(bench.kafka, stream.output, 21)
    assert [answer.id for answer in answers] == [f"r-{number}" for number in range(21)]
    wait_until_idle(page)
    assert metric(page, "duplicates_total") == 20


def test_beyond_the_window_a_request_is_a_new_one(bench, running):
    stream = bench.declare(window=5, in_flight=4)
    running(stream)
    once = [(f"r-{number}", b"customer-1", body(number)) for number in range(20)]
    send(bench.kafka, stream.input, [*once, once[0], once[19], ("last", b"customer-1", body(1))])
    answers = wait_for(bench.kafka, stream.output, 22)
    assert [answer.id for answer in answers[20:]] == ["r-0", "last"]


def test_transaction_that_was_cut_off_is_nobodys_answer(bench, running):
    """A consumer that dies between its answers and its commit: its successor waits and answers itself."""
    from confluent_kafka import Consumer, Producer, TopicPartition

    stream = bench.declare()
    send(bench.kafka, stream.input, [("r-0", b"k", body(0))], partition=2)
    reader = Consumer({"bootstrap.servers": bench.kafka, "group.id": stream.consumer_group})
    reader.subscribe([stream.input])
    while not reader.assignment():
        reader.poll(0.2)
    dead = Producer(
        {
            "bootstrap.servers": bench.kafka,
            "transactional.id": f"themisto-{stream.name}-x",
            "transaction.timeout.ms": 5000,
        }
    )
    dead.init_transactions(30)
    dead.begin_transaction()
    dead.produce(stream.output, b"{}", b"k", 2, headers={"request-id": b"r-0"})
    place = TopicPartition(stream.input, 2, 1)
    dead.send_offsets_to_transaction([place], reader.consumer_group_metadata(), 30)
    dead.flush(10)
    reader.close()
    running(stream)
    (answer,) = wait_for(bench.kafka, stream.output, 1, timeout_s=90)
    assert answer.value["outputs"][0]["data"] == [1]
    assert answer.headers["release"] == "credit@1"


def test_control_plane_that_is_away_is_waited_for(bench, running):
    stream = bench.declare()
    bench.stop_control()
    _, page = running(stream)
    send(bench.kafka, stream.input, [("r-0", b"k", body(0))])
    until = time.monotonic() + 40
    while "control plane" not in state_of(page)["problem"]:
        assert time.monotonic() < until
        time.sleep(0.1)
    bench.restart_control()
    assert wait_for(bench.kafka, stream.output, 1)


def test_kafka_that_is_away_is_told(bench, running):
    stream = bench.declare()
    _, page = running(stream, THEMISTO_KAFKA="127.0.0.1:9")
    until = time.monotonic() + 40
    while "Kafka" not in state_of(page)["problem"]:
        assert time.monotonic() < until
        time.sleep(0.1)
