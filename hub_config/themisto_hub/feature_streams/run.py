"""Run: a thread for each view that has a topic, begun and ended as views are registered, begun anew after a fault."""

from __future__ import annotations

import logging
import random
import signal
import threading
import time

from themisto.errors import MissingSetting, ThemistoError
from themisto_hub.feature_streams.consumer import FlowConsumer
from themisto_hub.feature_streams.metrics import FlowMetrics, Metrics
from themisto_hub.feature_streams.models import Flow
from themisto_hub.feature_streams.record import Record
from themisto_hub.settings import Deployment, Keys
from themisto_hub.streams.broker import Broker, BrokerKey, reason_of
from themisto_hub.streams.health import serving
from themisto_hub.streams.metrics import StreamState

__all__ = ["run"]

_REPORT_S = 2.0
_LONGEST_PAUSE_S = 10.0
_STEADY_S = 60.0
_log = logging.getLogger(__name__)


def run(port: int | None = None) -> int:
    """Until SIGTERM or SIGINT. `port` is the page's, default the workbench's own. Raises Invalid, MissingSetting."""
    settings, keys = Deployment(), Keys()
    if not settings.kafka or not settings.feature_topics:
        raise MissingSetting("No group may read a topic.", "Set THEMISTO_KAFKA and THEMISTO_FEATURE_TOPICS.")
    if keys.feature_streams is None:
        raise MissingSetting("The key of the consumer is not there.", "The supervisor gives it: themisto up.")
    broker = Broker(settings.kafka, BrokerKey().kafka, name="themisto-feature-streams")
    broker.check()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    metrics = Metrics()
    record = Record(f"http://127.0.0.1:{settings.ports.control}/services/themisto", keys.feature_streams)
    running = _Running(broker, record, metrics)
    with serving(port or settings.ports.feature_streams, metrics.exposition, running.states):
        while not stop.is_set():
            try:
                running.become(record.report(running.states()))
            except ThemistoError as error:
                _log.warning("how the streams do cannot be told: %s", error)
            stop.wait(_REPORT_S)
        running.become([])
    record.close()
    return 0


class _Running:
    """The streams that run: by name what is read, its thread and how to stop it."""

    def __init__(self, broker: Broker, record: Record, metrics: Metrics) -> None:
        self._broker = broker
        self._record = record
        self._all = metrics
        self._kept: dict[str, tuple[Flow, threading.Thread, threading.Event]] = {}
        self._metrics: dict[str, FlowMetrics] = {}

    def states(self) -> list[StreamState]:
        return [self._metrics[name].state for name in list(self._kept)]

    def become(self, flows: list[Flow]) -> None:
        """End the streams that are not wanted any more or are other ones now, and begin those that are new."""
        wanted = {flow.name: flow for flow in flows}
        ending = [name for name, (flow, _, _) in self._kept.items() if _differs(flow, wanted.get(name))]
        for name in ending:
            self._kept[name][2].set()
        for name in ending:
            self._kept.pop(name)[1].join()
        for name, flow in wanted.items():
            if name not in self._kept:
                own = self._metrics.setdefault(name, FlowMetrics(name, self._all))
                stop = threading.Event()
                thread = threading.Thread(target=self._keep, args=(flow, own, stop), name=name)
                self._kept[name] = (flow, thread, stop)
                thread.start()

    def _keep(self, flow: Flow, metrics: FlowMetrics, stop: threading.Event) -> None:
        """Run the stream; after a fault begin anew, with a pause that grows while it goes on failing."""
        failed_in_a_row = 0
        while not stop.is_set():
            began = time.monotonic()
            try:
                FlowConsumer(flow, self._broker, self._record, metrics).run(stop)
            except Exception as error:  # noqa: BLE001 - whatever it was, nothing is lost and the others go on
                failed_in_a_row = 1 if time.monotonic() - began > _STEADY_S else failed_in_a_row + 1
                reason = reason_of(error)
                metrics.fails(reason)
                metrics.restarts.inc()
                _log.warning("stream %s begins anew: %s", flow.name, reason)
                stop.wait(min(_LONGEST_PAUSE_S, 0.25 * 2 ** min(failed_in_a_row, 8)) * random.uniform(0.5, 1))  # noqa: S311


def _differs(flow: Flow, wanted: Flow | None) -> bool:
    return wanted is None or wanted.version != flow.version or wanted.view != flow.view
