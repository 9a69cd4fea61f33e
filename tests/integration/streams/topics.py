"""What a producer and a reader outside the workbench do: send requests, read committed answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

__all__ = ["Read", "body", "read_all", "send", "wait_for"]


class Read(NamedTuple):
    """One committed answer."""

    partition: int
    key: bytes | None
    headers: dict[str, str]
    value: dict[str, Any]

    @property
    def id(self) -> str:
        return self.headers["request-id"]

    @property
    def failed(self) -> bool:
        return self.headers["status"] != "200"


def body(x: float) -> bytes:
    return json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [x]}]}).encode()


def send(
    servers: str, topic: str, records: Iterable[tuple[str | None, bytes | None, bytes | None]], partition: int = -1
) -> None:
    """Records of (request id, key, value), in their order."""
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "message.max.bytes": 20_000_000})
    for given, key, value in records:
        headers = [] if given is None else [("request-id", given.encode())]
        producer.produce(topic, value, key, partition, headers=headers)
        producer.poll(0)
    assert producer.flush(30) == 0


def read_all(servers: str, topic: str) -> list[Read]:
    """Every committed answer, partition by partition in its order."""
    reader = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    found: list[Read] = []
    try:
        partitions = set(reader.list_topics(topic, timeout=10).topics[topic].partitions)
        reader.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        while partitions:
            record = reader.poll(10)
            assert record is not None
            error = record.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                partitions.discard(record.partition())
                continue
            headers = {name: value.decode() for name, value in record.headers() or []}
            found.append(Read(record.partition(), record.key(), headers, json.loads(record.value())))
    finally:
        reader.close()
    return found


def wait_for(servers: str, topic: str, count: int, timeout_s: float = 60) -> list[Read]:
    """The answers, once there are `count`."""
    until = time.monotonic() + timeout_s
    while True:
        found = read_all(servers, topic)
        if len(found) >= count:
            return found
        assert time.monotonic() < until, f"{len(found)} of {count} answers within {timeout_s} s"
        time.sleep(0.3)
