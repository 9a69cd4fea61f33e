"""Consumer: reads a view's topic and has the control plane keep its rows and how far it came, in one transaction.

Kafka's own offsets are committed after that, for those who look at consumer groups; where to go on is asked of the
control plane, each time that partitions are assigned.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential
from tenacity.nap import sleep_using_event

from themisto.errors import NotFound, Unavailable
from themisto.features.messages import Decoded, Message, decode
from themisto.features.rowfile import write_parquet
from themisto_hub.feature_streams.metrics import FlowMetrics
from themisto_hub.feature_streams.models import Batch, Fed, Flow, Stretch
from themisto_hub.feature_streams.record import Record
from themisto_hub.streams.broker import Broker, is_record

if TYPE_CHECKING:
    from confluent_kafka import Consumer, TopicPartition
    from confluent_kafka import Message as Kept

__all__ = ["FlowConsumer"]

_MOST = 2000
"""Messages of a batch: fewer than a bucket of events may hold."""
_MOST_BYTES = 16 * 2**20
_POLL_S = 0.5
_LINGER_S = 0.05
"""How long a batch that has begun waits for more."""
_PATIENCE_S = 1.0
"""A batch that takes longer is waited for with the partitions paused, so that Kafka hears of us."""
_LONGEST_PAUSE_S = 5.0
_LAG_EVERY_S = 2.0
_KAFKA_S = 30.0


class _Abandoned(Exception):
    """The partitions are another consumer's by now, or we stop."""


class FlowConsumer:
    """One member of the view's consumer group, from its start to a fault or a stop."""

    def __init__(self, flow: Flow, broker: Broker, record: Record, metrics: FlowMetrics) -> None:
        self._flow = flow
        self._broker = broker
        self._record = record
        self._metrics = metrics
        self._known: dict[int, int | None] = {}
        """By partition that is ours, up to where the control plane has it."""
        self._next: dict[int, int] = {}
        """And which offset comes next."""
        self._generation = 0
        self._ahead: list[Kept] = []
        self._lag_at_s = 0.0
        self._waiting = False
        """Whether rows on record are not online yet: then it is asked again, though nothing new comes."""
        self._consumer: Consumer

    def run(self, stop: threading.Event) -> None:
        """Until `stop`. Raises ThemistoError, KafkaException: then begin anew with another object."""
        found = self._broker.topic(self._flow.topic)
        if found.error is not None or not found.partitions:
            why = found.error.str() if found.error is not None else "it has no partitions"
            raise NotFound(
                f"The topic '{self._flow.topic}' cannot be used: {why}.", "Make it, and let this user read it."
            )
        self._consumer = self._broker.consumer(self._flow.consumer_group)
        pool = ThreadPoolExecutor(1, thread_name_prefix=self._flow.name)
        try:
            self._consumer.subscribe([self._flow.topic], on_assign=self._assigned, on_revoke=self._revoked)
            while not stop.is_set():
                self._measure_lag()
                batch = self._read()
                if batch or (self._waiting and self._known):
                    self._process(batch, pool, stop)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self._consumer.close()
            self._metrics.waits({})

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._generation += 1
        self._ahead.clear()
        known = self._record.places(self._flow) if partitions else {}
        self._known = {place.partition: known.get(place.partition) for place in partitions}
        self._next = {}
        fresh = []
        for place in partitions:
            low, high = consumer.get_watermark_offsets(place, timeout=_KAFKA_S)
            place.offset = self._begin(place.partition, low, high)
            self._next[place.partition] = place.offset
            if self._known[place.partition] is None:
                fresh.append(Stretch(partition=place.partition, since=None, next=place.offset))
        if fresh:  # "latest" is now, not when the first message comes
            self._record.feed(self._flow, self._batch(fresh))
            self._known |= {stretch.partition: stretch.next for stretch in fresh}
        consumer.assign(partitions)
        consumer.resume(partitions)  # a partition that was taken away while it was paused comes back paused
        self._lag_at_s = 0.0
        self._metrics.goes_on()

    def _begin(self, partition: int, low: int, high: int) -> int:
        known = self._known[partition]
        if known is None:
            assert self._flow.view.stream is not None
            return low if self._flow.view.stream.start == "earliest" else high
        if known < low:
            self._metrics.missed.inc(low - known)
            return low
        # Shorter than it was: it is another topic of the name. Rows that come again change nothing.
        return known if known <= high else low

    def _revoked(self, _: Consumer, __: list[TopicPartition]) -> None:
        self._generation += 1
        self._ahead.clear()
        self._known, self._next = {}, {}

    def _read(self) -> list[Message]:
        """What has come, all of the assignment in force."""
        generation, found = self._generation, self._ahead
        self._ahead = []
        until = time.monotonic() + (_LINGER_S if found else _POLL_S)
        size = sum(len(record.value() or b"") for record in found)
        while len(found) < _MOST and size < _MOST_BYTES:
            record = self._consumer.poll(max(0.0, until - time.monotonic()))
            if generation != self._generation:
                generation, found, size = self._generation, [], 0
            if record is None:
                break
            if is_record(record):
                if not found:
                    until = time.monotonic() + _LINGER_S
                found.append(record)
                size += len(record.value() or b"")
        return [Message(record.partition() or 0, record.offset() or 0, _value(record)) for record in found]

    def _process(self, batch: Sequence[Message], pool: ThreadPoolExecutor, stop: threading.Event) -> None:
        began, generation = time.perf_counter(), self._generation
        following = {message.partition: message.offset + 1 for message in batch} or dict(self._next)
        stretches = [Stretch(partition=p, since=self._known[p], next=after) for p, after in following.items()]
        abandoned = threading.Event()
        work = pool.submit(self._keep, batch, stretches, abandoned)
        try:
            if not self._wait(work, stop):
                return
            decoded, fed = work.result()
        finally:
            abandoned.set()
        if generation == self._generation:
            self._known |= following
            self._next |= following
            self._commit(following)
        self._metrics.messages.inc(len(batch))
        self._metrics.rows.inc(fed.rows)
        self._metrics.quarantined.inc(fed.quarantined)
        self._metrics.poison.inc(len(decoded.poison))
        self._metrics.batch_s.observe(time.perf_counter() - began)
        self._waiting = not fed.online
        if fed.online:
            self._metrics.goes_on()
        else:
            self._metrics.fails("The online store does not answer: rows wait for it.")

    def _keep(
        self, messages: Sequence[Message], stretches: Sequence[Stretch], abandoned: threading.Event
    ) -> tuple[Decoded, Fed]:
        """Their rows on record; waits while the control plane or the store is away. Raises Conflict, _Abandoned."""
        decoded = decode(self._flow.view, messages)
        rows, reached = b"", None
        if len(decoded.rows):
            with tempfile.TemporaryDirectory() as folder:
                path, data = write_parquet(self._flow.view, decoded.rows, Path(folder))
                rows, reached = path.read_bytes(), data.last_at
        batch = self._batch(stretches).model_copy(update={"poison": tuple(decoded.poison), "reached": reached})

        def feed() -> Fed:
            if abandoned.is_set():
                raise _Abandoned
            return self._record.feed(self._flow, batch, rows)

        def before_sleep(state: RetryCallState) -> None:
            self._metrics.retried(str(state.outcome.exception()) if state.outcome else "")

        again = Retrying(
            wait=wait_random_exponential(multiplier=0.2, max=_LONGEST_PAUSE_S),
            sleep=sleep_using_event(abandoned),
            retry=retry_if_exception_type(Unavailable),
            before_sleep=before_sleep,
        )
        return decoded, again(feed)

    def _batch(self, stretches: Sequence[Stretch]) -> Batch:
        return Batch(topic=self._flow.topic, version=self._flow.version, stretches=tuple(stretches))

    def _wait(self, work: Future[tuple[Decoded, Fed]], stop: threading.Event) -> bool:
        """Whether it was done while the partitions were ours."""
        generation = self._generation
        if wait([work], _PATIENCE_S).done:
            return True
        self._consumer.pause(self._consumer.assignment())
        try:
            while not work.done():
                if stop.is_set():
                    return False
                record = self._consumer.poll(0)
                if record is not None and is_record(record):
                    self._ahead.append(record)
                if generation != self._generation:
                    return False
                self._measure_lag()
                wait([work], 0.1)
        finally:
            self._consumer.resume(self._consumer.assignment())
        return True

    def _commit(self, following: dict[int, int]) -> None:
        """For those who look at the group; where to go on stands in the record."""
        from confluent_kafka import TopicPartition

        moved = [TopicPartition(self._flow.topic, partition, offset) for partition, offset in following.items()]
        self._consumer.commit(offsets=moved, asynchronous=True)

    def _measure_lag(self) -> None:
        """Asks Kafka; also how a broker that is away is noticed while nothing comes. Raises KafkaException."""
        from confluent_kafka import TopicPartition

        if time.monotonic() < self._lag_at_s:
            return
        lag = {}
        for partition, offset in self._next.items():
            _, end = self._consumer.get_watermark_offsets(TopicPartition(self._flow.topic, partition), timeout=_KAFKA_S)
            lag[partition] = max(0, end - offset)
        self._metrics.waits(lag)
        self._lag_at_s = time.monotonic() + _LAG_EVERY_S


def _value(record: Kept) -> bytes | None:
    value = record.value()
    return value if value is None or isinstance(value, bytes) else value.encode()
