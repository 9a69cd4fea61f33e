"""Records: a request as Kafka delivers it, and its answer as Kafka keeps it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["REQUEST_ID", "Answer", "Record", "Request", "answered_id", "refusal", "request_of"]

REQUEST_ID = "request-id"
_ID = re.compile(rb"[\x21-\x7e]{1,200}")
Value = str | bytes | None


class Record(Protocol):
    """What we read of Kafka's own message."""

    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> dict[str, Value] | list[tuple[str, Value]] | None: ...


@dataclass(frozen=True, slots=True)
class Request:
    """One record of the input topic."""

    topic: str
    partition: int
    offset: int
    id: str
    """The header `request-id`; without one the record's place, `topic/partition/offset`."""
    key: bytes | None
    body: bytes
    problem: str = ""
    """Why nobody need be asked."""

    @property
    def place(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def sticky_key(self) -> str | None:
        """The record's key as `themisto-key`: as it is where a header can hold it, else in hexadecimal."""
        if not self.key:
            return None
        plain = re.fullmatch(rb"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", self.key)
        return self.key.decode("ascii") if plain else self.key.hex()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway said, or why it was not asked."""

    request: Request
    status: int
    """HTTP's."""
    body: bytes
    """The Open Inference Protocol's response, or its `{"error": …}`."""
    release: str = ""
    """What answered: `credit@7`."""
    fallback: str = ""
    latency_ms: float = 0.0
    """Of the last try."""
    headers: list[tuple[str, Value]] = field(init=False)
    """Of the record, with those of the request that say whose answer it is."""

    def __post_init__(self) -> None:
        found = {
            REQUEST_ID: self.request.id,
            "request": self.request.place,
            "status": str(self.status),
            "release": self.release,
            "fallback": self.fallback,
            "latency-ms": f"{self.latency_ms:.3f}",
        }
        object.__setattr__(self, "headers", [(name, value.encode()) for name, value in found.items() if value])

    @property
    def failed(self) -> bool:
        return self.status != 200


def request_of(record: Record) -> Request:
    """The request in a record, whatever a producer has put there. Raises nothing."""
    topic, partition, offset = record.topic() or "", record.partition() or 0, record.offset() or 0
    place = f"{topic}/{partition}/{offset}"
    given = _given(record)
    body = record.value()
    named, problem = place, ""
    if len(given) > 1:
        problem = f"The header {REQUEST_ID} is there {len(given)} times."
    elif given and not _ID.fullmatch(given[0]):
        problem = f"The header {REQUEST_ID} must be 1 to 200 visible ASCII characters."
    elif given:
        named = given[0].decode("ascii")
    if not problem and not body:
        problem = "The record has no value."
    return Request(topic, partition, offset, named, record.key(), body or b"", problem)


def refusal(request: Request, status: int, detail: str, release: str = "") -> Answer:
    """An error in the protocol's shape."""
    return Answer(request, status, json.dumps({"error": detail}).encode(), release)


def answered_id(record: Record) -> str | None:
    """Whose answer a record of the output topic is; None for what is no answer of ours."""
    given = _given(record)
    return given[0].decode("ascii", "replace") if len(given) == 1 else None


def _given(record: Record) -> list[bytes]:
    headers = record.headers() or []
    pairs: Iterable[tuple[str, Value]] = headers.items() if isinstance(headers, Mapping) else headers
    values = [value for name, value in pairs if name == REQUEST_ID]
    return [value.encode() if isinstance(value, str) else value or b"" for value in values]
