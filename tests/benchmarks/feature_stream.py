"""A Kafka topic into a view on SQLite: events a second, from the first batch on record to the last.

Ours is the consumer's process, the control plane and the transformer, which holds the store: when an event counts it is
on record with its offset, judged, and readable online. The peer reads the same topic with the same client and parses
the JSON, and does nothing with it: what no consumer in Python gets beyond. All of them and the broker share the cores.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.benchmarks.record import Record
from tests.integration.feature_streams.conftest import GROUP, Bench, metric
from tests.integration.features.conftest import wait_until
from tests.integration.streams.kafka.node import KafkaNode

import themisto

EVENTS, CUSTOMERS = 60_000, 1_000
_PORT = 29300
_EVERY_MS = 50  # one event after the other: fifty minutes in all
_WITHIN_S = 120.0
_VIEWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "windowed": {
        "aggregates": [themisto.Aggregate("amount", f, over=["1h", "7d"]) for f in ("sum", "avg")],
        "every": "5m",
        "sequence": "number",
    },
}


def run(record: Record) -> None:
    with TemporaryDirectory() as name, KafkaNode(Path(name) / "kafka") as kafka:
        state = Path(name) / "state"
        state.mkdir()
        bench = Bench(state, _PORT, kafka)
        bench.start_control()
        bench.start_transformer()  # it holds the SQLite store
        try:
            bench.start_consumer(bench.settings.ports.feature_streams)
            topic = bench.topic()
            bench.send(topic, _events(), key="who")
            bare = _bare(kafka, topic)
            for kind, said in _VIEWS.items():
                ours = _ours(bench, topic, kind, said)
                record.add(f"feature_stream_{kind}_s", "events/s", ours, bare, "bare consumer, higher is better")
        finally:
            bench.stop_consumers()
            bench.stop_transformer()
            bench.stop_control()
            bench.hub.stop()


def _events() -> Iterator[dict[str, Any]]:
    began = int(time.time() * 1000) - EVENTS * _EVERY_MS
    for n in range(EVENTS):
        who, amount = f"c{n * 7919 % CUSTOMERS}", n % 1000 / 4
        yield {"who": who, "at": began + n * _EVERY_MS, "number": n, "amount": amount}


def _ours(bench: Bench, topic: str, name: str, said: dict[str, Any]) -> float:
    customer, kept = themisto.Entity("customer", keys=["who"]), themisto.Topic(topic, times="ms")
    given: dict[str, Any] = {"at": "at", "features": {"amount": "float64"}} | said
    view = themisto.FeatureView(name, entity=customer, stream=kept, **given)
    service = themisto.FeatureService(f"of_{name}", features=[name])
    bench.features("streamer", [GROUP]).apply(view, service)
    page = f"http://127.0.0.1:{bench.settings.ports.feature_streams}"

    def done() -> float:
        return metric(page, "messages_total", f"{GROUP}/{name}")

    wait_until(lambda: done() > 0, "the first batch")
    first, began = done(), time.perf_counter()
    wait_until(lambda: done() >= EVENTS, "the last batch", _WITHIN_S)
    taken = time.perf_counter() - began
    assert metric(page, "rows_total", f"{GROUP}/{name}") == EVENTS
    return (EVENTS - first) / taken


def _bare(kafka: str, topic: str) -> float:
    from confluent_kafka import Consumer

    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "bare", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    read, began = 0, 0.0
    while read < EVENTS:
        message = consumer.poll(10)
        assert message is not None
        json.loads(message.value() or b"")
        read += 1
        began = began or time.perf_counter()
    taken = time.perf_counter() - began
    consumer.close()
    return (EVENTS - 1) / taken


if __name__ == "__main__":
    run(Record())
