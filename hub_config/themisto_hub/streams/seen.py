"""Seen: which request ids were answered, read back from the stream's own answers."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from themisto.errors import Unavailable
from themisto_hub.streams.broker import Broker
from themisto_hub.streams.models import Stream
from themisto_hub.streams.records import answered_id

__all__ = ["Seen", "read_back"]

_TIMEOUT_S = 60.0
"""Longer than a transaction may stay open."""
_BATCH = 1000


class Seen:
    """The newest `window` request ids of one partition."""

    def __init__(self, window: int, ids: Iterable[str] = ()) -> None:
        self._window = window
        self._ids: OrderedDict[str, None] = OrderedDict()
        self.add(ids)

    def __contains__(self, id: str) -> bool:
        return id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, ids: Iterable[str]) -> None:
        for one in ids:
            self._ids[one] = None
            self._ids.move_to_end(one)
        while len(self._ids) > self._window:
            self._ids.popitem(last=False)


def read_back(broker: Broker, stream: Stream, partitions: Sequence[int]) -> dict[int, Seen]:
    """What the ends of the output's partitions say, `window` offsets of each.

    Waits until no transaction of an earlier owner is open there: its answers count or they are gone. Markers
    of transactions take offsets too, so `window` offsets hold somewhat fewer answers; a window of twice as
    many offsets makes up for transactions of one answer each. Raises Unavailable, KafkaException.
    """
    from confluent_kafka import KafkaError, KafkaException, TopicPartition

    seen = {partition: Seen(stream.window) for partition in partitions}
    reader = broker.consumer(stream.consumer_group)
    try:
        ends = _ends(broker, stream.output, partitions)
        starts = []
        for partition, end in ends.items():
            low, _ = reader.get_watermark_offsets(TopicPartition(stream.output, partition), timeout=10)
            start = max(low, end - 2 * stream.window)
            if start < end:
                starts.append(TopicPartition(stream.output, partition, start))
        missing = {one.partition for one in starts}
        reader.assign(starts)
        until = time.monotonic() + _TIMEOUT_S
        while missing:
            if time.monotonic() > until:
                raise Unavailable(f"The end of '{stream.output}' cannot be read.", "It is tried again.")
            for record in reader.consume(_BATCH, timeout=1):
                error, partition = record.error(), record.partition() or 0
                if error is None:
                    given = answered_id(record)
                    seen[partition].add([] if given is None else [given])
                elif error.code() == KafkaError._PARTITION_EOF:
                    if (record.offset() or 0) >= ends[partition]:
                        missing.discard(partition)
                elif error.fatal() or not error.retriable():
                    raise KafkaException(error)
    finally:
        reader.close()
    return seen


def _ends(broker: Broker, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """Offsets after the last record, committed or not."""
    from confluent_kafka import IsolationLevel, TopicPartition
    from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the library's own stubs lack it
    asked = {TopicPartition(topic, partition): latest for partition in partitions}
    admin = broker.admin()  # held until the answers are there: they end with it
    found = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=10)
    return {place.partition: future.result(15).offset for place, future in found.items()}
