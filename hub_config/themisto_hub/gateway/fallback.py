"""Fallback: what answers in a release's place when it cannot: an earlier release, its rule, its declared default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from themisto.serving.models import Column
from themisto.serving.names import ENDPOINT_PATTERN
from themisto.types import Json, Model, Slug
from themisto_hub.gateway.addresses import Address

__all__ = ["DefaultAnswer", "StandIn"]

AnsweringName = Annotated[str, StringConstraints(pattern=rf"^(rule\.)?{ENDPOINT_PATTERN}--[1-9][0-9]{{0,8}}$")]
"""Triton's name of a release, `credit--7`, or of the rule that was released with it, `rule.credit--7`."""


class StandIn(Model):
    """Another model that takes the same requests."""

    kind: Literal["earlier", "rule"]
    release: AnsweringName
    http: Address
    grpc: Address
    feature_service: str | None = None
    """The service version that it reads; default: that of the release it stands in for."""
    feature_group: Slug | None = None
    """Whose service it is; default: the route's group."""

    @property
    def title(self) -> str:
        """As people write it; a rule goes by the name of its release."""
        endpoint, _, number = self.release.removeprefix("rule.").rpartition("--")
        return f"{endpoint}@{number}"


class DefaultAnswer(Model):
    """What is said when nothing else answers: the same for each row."""

    outputs: Annotated[tuple[Column, ...], Field(min_length=1)]
    values: Mapping[str, Json]
