"""Commit: answers and the offsets of their requests, together or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from themisto_hub.streams.broker import Broker
from themisto_hub.streams.models import Stream
from themisto_hub.streams.records import Answer, refusal

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, Producer

__all__ = ["Committer"]

_INIT_S = 30.0
_TRANSACTION_S = 10.0
"""A transaction begins when its answers are there, so it lasts milliseconds; readers wait for one that was cut off."""


class Committer:
    """The stream's transactional producer."""

    def __init__(self, stream: Stream, broker: Broker, member: str) -> None:
        """Raises KafkaException. An open transaction of the same `member` is aborted."""
        self._stream = stream
        self._broker = broker
        self._member = member
        self._producer = self._begun()

    def commit(self, answers: Sequence[Answer], offsets: Mapping[int, int], consumer: Consumer) -> list[Answer]:
        """Write them, in their order, and move the group on to `offsets` (partition to next offset).

        An answer that the topic does not take for its size is written as an error. Returns what was written.
        Raises KafkaException: then nothing was written, unless the next owner of the partitions finds it was.
        """
        written, shortened, alone = list(answers), set[str](), False
        try:
            while too_long := self._try(written, offsets, consumer, alone=alone):
                if alone:
                    if too_long <= shortened:
                        raise _too_large()
                    shortened |= too_long
                    written = [_shortened(a) if a.request.place in too_long else a for a in written]
                self._producer = self._begun()  # the old one has lost count of what it sent
                alone = True  # several answers were sent as one: which of them is too long?
        except BaseException:
            with suppress(Exception):  # it may be fenced, or Kafka away: the transaction ends by itself
                self._producer.abort_transaction(5)
            raise
        return written

    def _begun(self) -> Producer:
        """Of our transactional id, so an open transaction of the one before is aborted."""
        producer = self._broker.producer(self._member, _TRANSACTION_S)
        producer.init_transactions(_INIT_S)
        return producer

    def _try(
        self, answers: Sequence[Answer], offsets: Mapping[int, int], consumer: Consumer, *, alone: bool
    ) -> set[str]:
        """Places of requests whose answers are too long, alone or together; then the transaction stays open."""
        from confluent_kafka import TopicPartition

        self._producer.begin_transaction()
        too_long: set[str] = set()
        for answer in answers:
            self._send(answer, too_long)
            if alone:
                self._producer.flush(_TRANSACTION_S)
            if too_long:
                return too_long
        self._producer.flush(_TRANSACTION_S)
        if too_long:
            return too_long
        moved = [TopicPartition(self._stream.input, partition, offset) for partition, offset in offsets.items()]
        self._producer.send_offsets_to_transaction(moved, consumer.consumer_group_metadata(), _TRANSACTION_S)
        self._producer.commit_transaction(_TRANSACTION_S)
        return too_long

    def _send(self, answer: Answer, too_long: set[str]) -> None:
        """Hand one over; whose answer is not taken for its size will stand in `too_long`."""
        from confluent_kafka import KafkaError, KafkaException

        place = answer.request.place

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                too_long.add(place)

        try:
            self._producer.produce(
                self._stream.output,
                answer.body,
                answer.request.key,
                answer.request.partition,
                on_delivery=delivered,
                headers=answer.headers,
            )
        except KafkaException as error:
            if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                too_long.add(place)
                return
            self._producer.flush(_TRANSACTION_S)  # an earlier one may have been refused meanwhile: then that is why
            if not too_long:
                raise


def _shortened(answer: Answer) -> Answer:
    detail = f"The answer has {len(answer.body)} bytes, more than the topic takes."
    return refusal(answer.request, 413, detail, answer.release)


def _too_large() -> Exception:
    from confluent_kafka import KafkaError, KafkaException

    return KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
