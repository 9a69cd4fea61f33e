"""Streams: which topic's requests go to which endpoint, and where their answers are written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from themisto.features.topics import TopicName
from themisto.serving.names import EndpointName
from themisto.types import Model, Slug

__all__ = ["Stream", "check_streams"]


class Stream(Model):
    """Requests of one topic, asked of one endpoint; answers in the same partition of another topic."""

    name: Slug
    endpoint: EndpointName
    input: TopicName
    output: TopicName
    """Has at least the partitions of `input`, and nobody else writes to it."""
    group: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{0,200}$")] = ""
    """Kafka's consumer group; default `themisto-<name>`."""
    in_flight: Annotated[int, Field(ge=1, le=256)] = 32
    """Requests that are read ahead and asked at one time, by each consumer."""
    window: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    """Answers of a partition whose request ids are remembered: a request that comes again within them is dropped."""
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 30.0
    """How long one try may take."""

    @model_validator(mode="after")
    def _is_no_circle(self) -> Self:
        if self.input == self.output:
            msg = f"the stream '{self.name}' would read its own answers from '{self.output}'"
            raise ValueError(msg)
        return self

    @property
    def consumer_group(self) -> str:
        return self.group or f"themisto-{self.name}"


def check_streams(streams: Iterable[Stream]) -> None:
    """Raises ValueError for two of one name, two that write to one topic, two that share out one topic's requests."""
    names: set[str] = set()
    outputs: set[str] = set()
    readers: set[tuple[str, str]] = set()
    for stream in streams:
        reader = (stream.consumer_group, stream.input)
        if stream.name in names:
            msg = f"two streams are called '{stream.name}'"
        elif stream.output in outputs:
            msg = f"two streams write to '{stream.output}'"
        elif reader in readers:
            msg = f"two streams read '{stream.input}' as the group '{stream.consumer_group}'"
        else:
            names.add(stream.name)
            outputs.add(stream.output)
            readers.add(reader)
            continue
        raise ValueError(msg)
