"""Run: all declared streams side by side, each begun anew after a fault of Kafka."""

from __future__ import annotations

import logging
import random
import signal
import threading
import time

from themisto.errors import MissingSetting
from themisto.types import new_ulid
from themisto_hub.settings import Deployment, Keys
from themisto_hub.streams.asking import Asker
from themisto_hub.streams.broker import Broker, BrokerKey, reason_of
from themisto_hub.streams.consumer import StreamConsumer
from themisto_hub.streams.health import serving
from themisto_hub.streams.metrics import Metrics, StreamMetrics
from themisto_hub.streams.models import Stream
from themisto_hub.streams.token import Token

__all__ = ["run"]

_LONGEST_PAUSE_S = 10.0
_STEADY_S = 60.0
_log = logging.getLogger(__name__)


def run(port: int | None = None) -> int:
    """Until SIGTERM or SIGINT. `port` is the page's, default the workbench's own. Raises Invalid, MissingSetting."""
    settings, keys = Deployment(), Keys()
    if not settings.kafka or not settings.streams:
        raise MissingSetting("No stream is declared.", "Set THEMISTO_KAFKA and THEMISTO_STREAMS.")
    if keys.streams is None:
        raise MissingSetting("The key of the streams is not there.", "The supervisor gives it: themisto up.")
    broker = Broker(settings.kafka, BrokerKey().kafka)
    broker.check()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    metrics = Metrics()
    control = f"http://127.0.0.1:{settings.ports.control}/services/themisto"
    kept = []
    for stream in settings.streams:
        token = Token(control, stream.name, keys.streams)
        own = StreamMetrics(stream.name, metrics)
        asker = Asker(stream, settings.gateway_http, token, own.retried)
        kept.append((threading.Thread(target=_keep, args=(stream, broker, asker, own, stop), name=stream.name), own))
    with serving(port or settings.ports.streams, metrics.exposition, lambda: [own.state for _, own in kept]):
        for thread, _ in kept:
            thread.start()
        for thread, _ in kept:
            thread.join()
    return 0


def _keep(stream: Stream, broker: Broker, asker: Asker, metrics: StreamMetrics, stop: threading.Event) -> None:
    """Run the stream; after a fault begin anew, with a pause that grows while it goes on failing."""
    member = f"themisto-{stream.name}-{new_ulid()}"
    failed_in_a_row = 0
    while not stop.is_set():
        began = time.monotonic()
        try:
            StreamConsumer(stream, broker, asker, metrics, member).run(stop)
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing is lost and the others go on
            failed_in_a_row = 1 if time.monotonic() - began > _STEADY_S else failed_in_a_row + 1
            reason = reason_of(error)
            metrics.fails(reason)
            metrics.restarts.inc()
            _log.warning("stream %s begins anew: %s", stream.name, reason)
            stop.wait(min(_LONGEST_PAUSE_S, 0.5 * 2 ** min(failed_in_a_row, 8)) * random.uniform(0.5, 1))  # noqa: S311
    asker.close()
