"""The workbench of the features' tests with a real Kafka, and the consumer of topics as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from tests.integration.features.conftest import Bench as FeaturesBench
from tests.integration.features.conftest import answers, wait_until
from tests.integration.streams import conftest as streams

from themisto.types import new_ulid
from themisto_hub.settings import Deployment, Keys

kafka = streams.kafka  # the fixture
GROUP = "data-science"
KEY = "key-of-the-consumer"
TOPICS = {GROUP: ("t-*",), "elsewhere": ()}


class Bench(FeaturesBench):
    """The control plane and the transformer, with topics."""

    def __init__(self, state: Path, port: int, kafka: str) -> None:
        super().__init__(state, port)
        self.kafka = kafka
        self.settings = Deployment(state=state, port=port, kafka=kafka, feature_topics=TOPICS)
        self.keys = Keys(**(self.keys.model_dump() | {"feature_streams": SecretStr(KEY)}))
        self.consumers: list[subprocess.Popen[bytes]] = []

    def stop(self) -> None:
        self.stop_consumers(signal.SIGKILL)
        super().stop()

    def topic(self, partitions: int = 3) -> str:
        """A new one."""
        from confluent_kafka.admin import AdminClient, NewTopic

        name = f"t-{new_ulid().lower()}"
        admin = AdminClient({"bootstrap.servers": self.kafka})  # held until the answers are there
        for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
            future.result(30)
        return name

    def send(self, topic: str, messages: Iterable[Any], *, key: str | None = "who", partition: int = -1) -> None:
        """Messages in their order; what is no bytes is sent as JSON, by the field `key`."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.kafka, "enable.idempotence": True})
        for message in messages:
            plain = message is None or isinstance(message, bytes)
            value = message if plain else json.dumps(message).encode()
            by = None if plain or key is None else str(message.get(key)).encode()
            producer.produce(topic, value, by, partition)
            producer.poll(0)
        assert producer.flush(30) == 0

    def start_consumer(self, port: int, **more: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "THEMISTO_STATE": str(self.state),
            "THEMISTO_PORT": str(self.settings.port),
            "THEMISTO_KAFKA": self.kafka,
            "THEMISTO_FEATURE_TOPICS": json.dumps(TOPICS),
            "THEMISTO_KEY_FEATURE_STREAMS": KEY,
            **more,
        }
        command = [sys.executable, "-m", "themisto_hub.feature_streams", "--port", str(port)]
        with (self.state / f"consumer-{port}.log").open("ab") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.consumers.append(process)
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/healthz"), "the consumer")
        return process

    def stop_consumers(self, number: int = signal.SIGTERM) -> list[int]:
        """Their exit codes."""
        for process in self.consumers:
            if process.poll() is None:
                os.killpg(process.pid, number)
        codes = [process.wait(30) for process in self.consumers]
        self.consumers.clear()
        return codes


@pytest.fixture
def bench(kafka: str, tmp_path_factory: pytest.TempPathFactory, free_base: Callable[[], int]) -> Iterator[Bench]:
    with Bench(tmp_path_factory.mktemp("topics"), free_base(), kafka) as bench:
        yield bench


@pytest.fixture
def consuming(bench: Bench, free_base: Callable[[], int]) -> Iterator[Callable[..., str]]:
    """Starts consumers, each with the address of its page; they end with the test."""

    def start(**more: str) -> str:
        port = free_base()
        bench.start_consumer(port, **more)
        return f"http://127.0.0.1:{port}"

    yield start
    bench.stop_consumers()


def metric(page: str, name: str, stream: str) -> float:
    """The value of a counter of one view's stream."""
    text = httpx.get(f"{page}/metrics", timeout=5, trust_env=False).text
    start = f'themisto_feature_stream_{name}{{stream="{stream}"'
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(start))
