"""Broker: how the streams reach Kafka; its secrets are one key that the operator gives."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from themisto.errors import Invalid, MissingSetting, Refused, ThemistoError, Unavailable

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, Producer
    from confluent_kafka.admin import AdminClient

__all__ = ["Broker", "BrokerKey", "is_record", "reason_of"]

_OURS = (
    "group.",
    "transactional.",
    "transaction.",
    "enable.",
    "isolation.",
    "auto.",
    "acks",
    "plugin.",
    "bootstrap.",
    "metadata.broker.list",
)
"""Settings that the guarantees rest on, or that load code."""
_TOPIC_S = 10.0
_log = logging.getLogger("themisto.streams.kafka")


class BrokerKey(BaseSettings):
    """`THEMISTO_KEY_KAFKA`: how to log in, librdkafka's settings as JSON; only the streams are given it."""

    model_config = SettingsConfigDict(env_prefix="THEMISTO_KEY_", frozen=True, extra="ignore")

    kafka: SecretStr | None = None


class Broker:
    """Makes clients; `servers` is `host:9092,host:9092`, `key` as `BrokerKey` has it, `name` what Kafka calls them."""

    def __init__(self, servers: str, key: SecretStr | None = None, *, name: str = "themisto-streams") -> None:
        self._servers = servers
        self._key = key
        self._name = name

    def check(self) -> None:
        """Raises MissingSetting without Kafka's client, Invalid for a key that is no such thing."""
        try:
            import confluent_kafka  # noqa: F401 - whether it is there
        except ImportError:
            raise MissingSetting("Kafka's client is not installed.", "pip install 'themisto[kafka]'") from None
        self.consumer("check").close()

    @cached_property
    def properties(self) -> dict[str, Any]:
        """What every client is told. Raises Invalid, without a value."""
        own = _parsed(self._key)
        wrong = sorted(name for name in own if name.startswith(_OURS))
        if wrong:
            raise Invalid(
                f"THEMISTO_KEY_KAFKA may not set {', '.join(wrong)}.", "Only how to reach Kafka stands there."
            )
        return {"bootstrap.servers": self._servers, "client.id": self._name, **own}

    def consumer(self, group: str) -> Consumer:
        """One that reads what was committed, and commits nothing by itself."""
        from confluent_kafka import Consumer

        own = {
            "group.id": group,
            "isolation.level": "read_committed",  # and offsets that an open transaction may still change are awaited
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 10_000,
            "fetch.wait.max.ms": 100,
        }
        with _may_be_refused(self.properties):
            return Consumer(self.properties | own, logger=_log)

    def producer(self, transactional_id: str, transaction_s: float) -> Producer:
        """A transactional one; a transaction that is not ended within `transaction_s` is aborted by Kafka."""
        from confluent_kafka import Producer

        limit_ms = round(transaction_s * 1000)
        own = {
            "transactional.id": transactional_id,
            "transaction.timeout.ms": limit_ms,
            "delivery.timeout.ms": limit_ms,
            "linger.ms": 0,
            "compression.type": "lz4",
        }
        with _may_be_refused(self.properties):
            return Producer(self.properties | own, logger=_log)

    def admin(self, **more: Any) -> AdminClient:
        from confluent_kafka.admin import AdminClient

        with _may_be_refused(self.properties):
            return AdminClient(self.properties | more, logger=_log)

    def topic(self, name: str) -> Any:
        """What Kafka says of a topic. Raises Refused for a login or a certificate, Unavailable where it is away."""
        from confluent_kafka import KafkaException

        told: list[KafkaError] = []
        admin = self.admin(error_cb=told.append)
        try:
            return admin.list_topics(name, timeout=_TOPIC_S).topics[name]
        except KafkaException:
            admin.poll(0)  # the exception says only that nobody answered; why is told here
            raise self._away(told) from None

    def _away(self, told: Collection[KafkaError]) -> ThemistoError:
        from confluent_kafka import KafkaError

        codes = {error.code() for error in told}
        if codes & {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}:
            return Refused("Kafka refuses the login.", "Correct name, password and mechanism in THEMISTO_KEY_KAFKA.")
        if KafkaError._SSL in codes:
            return Refused(
                f"TLS with Kafka at {self._servers} fails: its certificate is not trusted, or it speaks none there.",
                "Name its CA in THEMISTO_KEY_KAFKA: ssl.ca.location, or ssl.ca.pem.",
            )
        return Unavailable(
            f"Kafka at {self._servers} does not answer.",
            "It may be down, or want a login: then THEMISTO_KEY_KAFKA says how.",
        )


def is_record(record: Message) -> bool:
    """False for news that need no answer. Raises KafkaException for a fault."""
    from confluent_kafka import KafkaError, KafkaException

    error = record.error()
    if error is None:
        return True
    if error.code() == KafkaError._PARTITION_EOF or (error.retriable() and not error.fatal()):
        return False
    raise KafkaException(error)


def reason_of(error: Exception) -> str:
    """One sentence: ours, or Kafka's."""
    from confluent_kafka import KafkaException

    if isinstance(error, ThemistoError):
        return str(error)
    if isinstance(error, KafkaException) and error.args:
        return f"Kafka: {error.args[0].str() if hasattr(error.args[0], 'str') else error.args[0]}."
    _log.error("unexpected", exc_info=error)
    return f"{type(error).__name__}."


@contextmanager
def _may_be_refused(properties: Mapping[str, Any]) -> Iterator[None]:
    from confluent_kafka import KafkaException

    try:
        yield
    except KafkaException as error:
        # Its sentence may hold values: of all its words only names of settings are told.
        told = str(error.args[0].str())
        named = [name for name in properties if f'"{name}"' in told]
        raise Invalid(
            f"Kafka's client refuses its settings{': ' + ', '.join(named) if named else ''}.",
            "Correct THEMISTO_KEY_KAFKA.",
        ) from None


def _parsed(key: SecretStr | None) -> dict[str, Any]:
    if key is None:
        return {}
    try:
        found = json.loads(key.get_secret_value())
    except ValueError:
        found = None
    if not isinstance(found, dict) or any(not isinstance(v, str | int | float | bool) for v in found.values()):
        raise Invalid(
            "The setting THEMISTO_KEY_KAFKA is no JSON object of settings.",
            'Write {"security.protocol": "SASL_SSL", …}.',
        )
    return found
