"""Consumer: reads requests, has them answered, and commits answers and offsets in one transaction of Kafka.

Kafka's consume-transform-produce (KIP-98, KIP-447): answers and the offsets of their requests become visible
together or not at all, and a consumer that lost its partitions can commit nothing more. A model may be asked
twice; of its answers one is committed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from themisto.errors import NotFound
from themisto_hub.streams.asking import Asker
from themisto_hub.streams.broker import Broker, is_record
from themisto_hub.streams.commit import Committer
from themisto_hub.streams.metrics import StreamMetrics
from themisto_hub.streams.models import Stream
from themisto_hub.streams.records import Answer, Request, request_of
from themisto_hub.streams.seen import Seen, read_back

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, TopicPartition

__all__ = ["StreamConsumer"]

_POLL_S = 0.5
_PATIENCE_S = 1.0
"""A batch that takes longer is waited for with the partitions paused, so that Kafka hears of us."""
_LAG_EVERY_S = 5.0
_KAFKA_S = 30.0


class StreamConsumer:
    """One member of the stream's consumer group, from its start to a fault of Kafka or a stop."""

    def __init__(self, stream: Stream, broker: Broker, asker: Asker, metrics: StreamMetrics, member: str) -> None:
        """`member` is the transactional id: of this process alone, the same after a fault."""
        self._stream = stream
        self._broker = broker
        self._asker = asker
        self._metrics = metrics
        self._member = member
        self._seen: dict[int, Seen] = {}
        self._next: dict[int, int] = {}
        """Offsets that are next to be committed, by partition that is ours."""
        self._generation = 0
        self._ahead: list[Message] = []
        self._lag_at_s = 0.0
        self._consumer: Consumer

    def run(self, stop: threading.Event) -> None:
        """Until `stop`. Raises NotFound, Invalid, Unavailable, KafkaException: then begin anew with another object."""
        self._check_topics()
        committer = Committer(self._stream, self._broker, self._member)
        self._consumer = self._broker.consumer(self._stream.consumer_group)
        pool = ThreadPoolExecutor(self._stream.in_flight, thread_name_prefix=self._stream.name)
        try:
            self._consumer.subscribe([self._stream.input], on_assign=self._assigned, on_revoke=self._revoked)
            while not stop.is_set():
                self._measure_lag()
                batch = self._read()
                if batch:
                    self._process(batch, pool, committer, stop)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            self._consumer.close()
            self._metrics.waits({})

    def _check_topics(self) -> None:
        counts = []
        for topic in (self._stream.input, self._stream.output):
            found = self._broker.topic(topic)
            if found.error is not None or not found.partitions:
                why = found.error.str() if found.error is not None else "it has no partitions"
                raise NotFound(f"The topic '{topic}' cannot be used: {why}.", "Make it, and let this user use it.")
            counts.append(len(found.partitions))
        if counts[1] < counts[0]:
            raise NotFound(
                f"'{self._stream.output}' has {counts[1]} partitions and '{self._stream.input}' has {counts[0]}.",
                f"Give '{self._stream.output}' at least as many.",
            )

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._generation += 1
        self._ahead.clear()
        # First the offsets, then the answers: what is committed between the two is known by its answer.
        places = consumer.committed(partitions, timeout=_KAFKA_S) if partitions else []
        for place in places:
            if place.offset < 0:
                place.offset, _ = consumer.get_watermark_offsets(place, timeout=_KAFKA_S)
        self._seen = read_back(self._broker, self._stream, [place.partition for place in places]) if places else {}
        self._next = {place.partition: place.offset for place in places}
        consumer.assign(places)
        consumer.resume(places)  # a partition that was taken away while it was paused comes back paused
        self._lag_at_s = 0.0
        self._metrics.goes_on()

    def _revoked(self, _: Consumer, __: list[TopicPartition]) -> None:
        self._generation += 1
        self._ahead.clear()
        self._seen, self._next = {}, {}

    def _read(self) -> list[Request]:
        """As many records as may be asked at one time, all of the assignment in force."""
        generation, found = self._generation, self._ahead
        self._ahead = []
        while len(found) < self._stream.in_flight:
            record = self._consumer.poll(0 if found else _POLL_S)
            if generation != self._generation:
                generation, found = self._generation, []
            if record is None:
                break
            if is_record(record):
                found.append(record)
        self._ahead = found[self._stream.in_flight :]
        return [request_of(record) for record in found[: self._stream.in_flight]]

    def _process(
        self, batch: Sequence[Request], pool: ThreadPoolExecutor, committer: Committer, stop: threading.Event
    ) -> None:
        began, generation = time.perf_counter(), self._generation
        fresh = self._fresh(batch)
        answers = self._answers(fresh, pool, stop)
        if answers is None or generation != self._generation:
            return
        offsets = {request.partition: request.offset + 1 for request in batch}
        written = committer.commit(answers, offsets, self._consumer)
        for answer in written:
            self._seen[answer.request.partition].add([answer.request.id])
            (self._metrics.errors if answer.failed else self._metrics.answered).inc()
        self._metrics.duplicates.inc(len(batch) - len(fresh))
        self._metrics.batch_s.observe(time.perf_counter() - began)
        self._next |= offsets
        self._metrics.goes_on()

    def _fresh(self, batch: Sequence[Request]) -> list[Request]:
        """Those whose id has no answer yet, the first of each id."""
        here: set[tuple[int, str]] = set()
        fresh = []
        for request in batch:
            place = (request.partition, request.id)
            if place not in here and request.id not in self._seen[request.partition]:
                here.add(place)
                fresh.append(request)
        return fresh

    def _answers(
        self, requests: Sequence[Request], pool: ThreadPoolExecutor, stop: threading.Event
    ) -> list[Answer] | None:
        """Answers in the order of their requests; None if the partitions were taken away meanwhile, or we stop.

        Requests of one key are asked one after the other, others beside them.
        """
        chains: dict[tuple[int, bytes | int], list[Request]] = {}
        for request in requests:
            own = request.offset if request.key is None else request.key
            chains.setdefault((request.partition, own), []).append(request)
        abandoned = threading.Event()

        def ask(chain: list[Request]) -> list[Answer]:
            return [self._asker.ask(request, abandoned) for request in chain]

        asked = [pool.submit(ask, chain) for chain in chains.values()]
        try:
            if not self._wait(asked, stop):
                return None
            found = {answer.request.place: answer for future in asked for answer in future.result()}
        finally:
            abandoned.set()
        return [found[request.place] for request in requests]

    def _wait(self, asked: Sequence[Future[list[Answer]]], stop: threading.Event) -> bool:
        """Whether all were answered while the partitions were ours."""
        generation = self._generation
        pending = wait(asked, _PATIENCE_S).not_done
        if not pending:
            return True
        self._consumer.pause(self._consumer.assignment())
        try:
            while pending and not stop.is_set():
                record = self._consumer.poll(0)
                if record is not None and is_record(record):
                    self._ahead.append(record)
                if generation != self._generation:
                    return False
                self._measure_lag()
                pending = wait(pending, 0.1).not_done
        finally:
            self._consumer.resume(self._consumer.assignment())
        return not pending

    def _measure_lag(self) -> None:
        """Asks Kafka; also how a broker that is away is noticed while nothing comes. Raises KafkaException."""
        from confluent_kafka import TopicPartition

        if time.monotonic() < self._lag_at_s:
            return
        lag = {}
        for partition, offset in self._next.items():
            place = TopicPartition(self._stream.input, partition)
            _, end = self._consumer.get_watermark_offsets(place, timeout=_KAFKA_S)
            lag[partition] = max(0, end - offset)
        self._metrics.waits(lag)
        self._lag_at_s = time.monotonic() + _LAG_EVERY_S
