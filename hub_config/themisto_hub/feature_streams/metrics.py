"""Metrics of views' streams, by Prometheus's conventions."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from themisto_hub.streams.metrics import StreamProgress

__all__ = ["FlowMetrics", "Metrics"]


class Metrics:
    """The registry behind `/metrics`, shared by all streams of the process; `stream` is `group/view`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)

        def counter(name: str, help: str) -> Counter:
            return Counter(f"themisto_feature_stream_{name}", help, ["stream"], registry=self._registry)

        self.messages = counter("messages", "Messages that were read and whose effect is on record")
        self.rows = counter("rows", "Rows that came of them")
        self.quarantined = counter("quarantined", "Rows that were not as their view expects")
        self.poison = counter("poison", "Messages that were no rows")
        self.missed = counter("missed", "Offsets that Kafka had removed before they were read")
        self.retries = counter("retries", "Further tries at the control plane")
        self.restarts = counter("restarts", "Times a stream began anew after a fault")
        self.lag = Gauge(
            "themisto_feature_stream_lag_messages",
            "Messages that wait, by partition that is read here",
            ["stream", "partition"],
            registry=self._registry,
        )
        self.batch_s = Histogram(
            "themisto_feature_stream_batch_seconds", "From reading messages to their rows' commit", ["stream"],
            registry=self._registry,
        )  # fmt: skip

    def exposition(self) -> bytes:
        return generate_latest(self._registry)


class FlowMetrics(StreamProgress):
    """One view's share."""

    def __init__(self, name: str, metrics: Metrics) -> None:
        super().__init__(name, metrics.lag, metrics.retries.labels(name))
        self.messages = metrics.messages.labels(name)
        self.rows = metrics.rows.labels(name)
        self.quarantined = metrics.quarantined.labels(name)
        self.poison = metrics.poison.labels(name)
        self.missed = metrics.missed.labels(name)
        self.restarts = metrics.restarts.labels(name)
        self.batch_s = metrics.batch_s.labels(name)
