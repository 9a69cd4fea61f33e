"""Kafka, Envoy, Triton and a control plane that signs the streams' tokens: one of each for the streams' tests.

Kafka is asked for: THEMISTO_TEST_KAFKA is its `host:port`, or `start` for one of the tests' own (Java 17 and Maven).
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from tests.integration.gateway.parts import Gateway, Process, wait_until
from tests.integration.streams.kafka.node import KafkaNode

from themisto.types import new_ulid
from themisto_hub.control.app import create_app
from themisto_hub.control.context import Control
from themisto_hub.gateway.routes import RouteTable, write
from themisto_hub.settings import Deployment, Keys
from themisto_hub.streams.models import Stream

KEY = "key-of-the-streams"
PUBLIC = "http://127.0.0.1:8000"  # whose tokens the gateway of the tests takes


class Bench(Gateway):
    """The gateway of the tests, with tokens of a real control plane."""

    def __init__(self, state: Path, port: int, kafka: str) -> None:
        super().__init__(state, port)
        self.kafka = kafka
        self.streams: list[Stream] = []
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._signer = Control(Deployment(state=state, port=port, public_url=PUBLIC), Keys()).signer

    @property
    def jwks(self) -> dict[str, Any]:
        return self._signer.jwks

    def declare(self, *, kafka: str | None = None, **fields: Any) -> Stream:
        """A stream with topics of its own, four partitions each, at `kafka`; the control plane learns of it."""
        from confluent_kafka.admin import AdminClient, NewTopic

        name = f"s{new_ulid().lower()}"
        stream = Stream(
            name=name, input=f"{name}.requests", output=f"{name}.answers", **({"endpoint": "credit"} | fields)
        )
        admin = AdminClient({"bootstrap.servers": kafka or self.kafka})
        made = admin.create_topics([NewTopic(t, 4, 1) for t in (stream.input, stream.output)])
        for future in made.values():
            future.result(120)
        self.streams.append(stream)
        self.restart_control()
        return stream

    @property
    def admin(self) -> Any:
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": self.kafka})

    def restart_control(self) -> None:
        self.stop_control()
        settings = Deployment(
            state=self.state,
            port=self.settings.port,
            public_url=PUBLIC,
            kafka=self.kafka,
            streams=tuple(self.streams),
        )
        app = create_app(Control(settings, Keys(streams=SecretStr(KEY))), workers=())
        config = uvicorn.Config(app, host="127.0.0.1", port=settings.ports.control, log_level="warning")
        server = self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        wait_until(lambda: server.started, "the control plane")

    def stop_control(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(10)

    def consumer(self, stream: Stream, port: int, **more: str) -> Process:
        """`python -m themisto_hub.streams` for this stream alone, its page on `port`; not started."""
        environment = self.environment | {
            "THEMISTO_KAFKA": self.kafka,
            "THEMISTO_STREAMS": json.dumps([stream.model_dump()]),
            "THEMISTO_KEY_STREAMS": KEY,
            "THEMISTO_PUBLIC_URL": PUBLIC,
            **more,
        }
        log = self.state / f"{stream.name}-{port}.log"
        return Process("themisto_hub.streams", "--port", str(port), environment=environment, log=log)


@pytest.fixture(scope="package")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    given = os.environ.get("THEMISTO_TEST_KAFKA", "")
    if not given:
        pytest.skip("THEMISTO_TEST_KAFKA is not set: host:port, or 'start'")
    if given != "start":
        yield given
        return
    with KafkaNode(tmp_path_factory.mktemp("kafka")) as servers:
        yield servers


@pytest.fixture(scope="package")
def bench(kafka: str, tmp_path_factory: pytest.TempPathFactory, free_base: Callable[[], int]) -> Iterator[Bench]:
    state = tmp_path_factory.mktemp("streams")
    (state / "control").mkdir(mode=0o700)
    bench = Bench(state, free_base(), kafka)
    write(RouteTable(), bench.settings.xds)
    try:
        bench.triton.start(bench.triton_ready)
        bench.envoy.start(bench.envoy_ready)
        bench.load("credit", 1)
        bench.publish(bench.route("credit", bench.target("credit", 1, 100)))
        yield bench
    finally:
        for process in (bench.envoy, bench.triton):
            process.stop()
        bench.stop_control()


@pytest.fixture
def running(bench: Bench, free_base: Callable[[], int]) -> Iterator[Callable[..., tuple[Process, str]]]:
    """Starts consumers of a stream, each with the address of its page; they end with the test."""
    started: list[Process] = []

    def start(stream: Stream, **more: str) -> tuple[Process, str]:
        port = free_base()
        process = bench.consumer(stream, port, **more)
        started.append(process)
        process.start(f"http://127.0.0.1:{port}/healthz")
        return process, f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.stop()


def state_of(page: str) -> dict[str, Any]:
    (state,) = httpx.get(f"{page}/healthz", timeout=5, trust_env=False).json()
    return dict(state)


def metric(page: str, name: str) -> float:
    """The value of a counter of the one stream there."""
    text = httpx.get(f"{page}/metrics", timeout=5, trust_env=False).text
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"themisto_stream_{name}")
    )
