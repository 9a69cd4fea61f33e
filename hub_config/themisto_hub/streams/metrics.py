"""Metrics of the streams, by Prometheus's conventions, and how each stream does."""

from __future__ import annotations

import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from themisto.types import Model

__all__ = ["Metrics", "StreamMetrics", "StreamProgress", "StreamState"]


class StreamState(Model):
    """How one stream does."""

    name: str
    lag: int | None = None
    """Records of its partitions that wait; None before it was measured."""
    partitions: int = 0
    problem: str = ""
    """Why it does not go on right now; empty if it does."""

    def __str__(self) -> str:
        waiting = "" if self.lag is None else f", {self.lag} waiting"
        return f"{self.name}: {self.problem.rstrip('.') or 'running'}{waiting}"


class Metrics:
    """The registry behind `/metrics`, shared by all streams of the process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)

        def counter(name: str, help: str) -> Counter:
            return Counter(f"themisto_stream_{name}", help, ["stream"], registry=self._registry)

        self.answered = counter("answered", "Requests whose answer a release gave")
        self.errors = counter("errors", "Requests whose answer is an error")
        self.duplicates = counter("duplicates", "Requests that were answered before and dropped")
        self.retries = counter("retries", "Further tries at the gateway")
        self.restarts = counter("restarts", "Times a stream began anew after a fault of Kafka")
        self.lag = Gauge(
            "themisto_stream_lag_records",
            "Records that wait, by partition of the input that is read here",
            ["stream", "partition"],
            registry=self._registry,
        )
        self.batch_s = Histogram(
            "themisto_stream_batch_seconds", "From reading requests to their answers' commit", ["stream"],
            registry=self._registry,
        )  # fmt: skip

    def exposition(self) -> bytes:
        return generate_latest(self._registry)


class StreamProgress:
    """How one stream goes on; written by its thread, read by the page."""

    def __init__(self, name: str, lag: Gauge, retries: Counter) -> None:
        self._name = name
        self._lag: dict[int, int] | None = None
        self._problem = "It has not begun."
        self._lock = threading.Lock()
        self._gauge = lag
        self.retries = retries

    def waits(self, lag: dict[int, int]) -> None:
        """Records that wait, by partition; partitions that are not named are not ours any more."""
        with self._lock:
            for partition in set(self._lag or {}) - set(lag):
                self._gauge.remove(self._name, str(partition))
            for partition, waiting in lag.items():
                self._gauge.labels(self._name, str(partition)).set(waiting)
            self._lag = dict(lag)

    def fails(self, problem: str) -> None:
        with self._lock:
            self._problem = problem

    def retried(self, reason: str) -> None:
        self.retries.inc()
        self.fails(reason)

    def goes_on(self) -> None:
        self.fails("")

    @property
    def state(self) -> StreamState:
        with self._lock:
            lag = None if self._lag is None else sum(self._lag.values())
            return StreamState(name=self._name, lag=lag, partitions=len(self._lag or ()), problem=self._problem)


class StreamMetrics(StreamProgress):
    """One stream's share."""

    def __init__(self, name: str, metrics: Metrics) -> None:
        super().__init__(name, metrics.lag, metrics.retries.labels(name))
        self.answered = metrics.answered.labels(name)
        self.errors = metrics.errors.labels(name)
        self.duplicates = metrics.duplicates.labels(name)
        self.restarts = metrics.restarts.labels(name)
        self.batch_s = metrics.batch_s.labels(name)
