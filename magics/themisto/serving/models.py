"""Endpoints and releases: what answers under a stable name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, model_validator

from themisto.serving.gates import Quality
from themisto.serving.names import EndpointName
from themisto.serving.rollout import Rollout, RolloutRequest, Strategy
from themisto.types import Json, Model, Number, Sha256, Slug, Ulid, UserName, UtcTime

__all__ = [
    "Artifact",
    "Column",
    "Endpoint",
    "EndpointCaller",
    "EndpointName",
    "Fallback",
    "Golden",
    "Kind",
    "Logical",
    "Personal",
    "Release",
    "ReleaseRequest",
    "ServingConfig",
    "Signature",
    "Tier",
    "triton_name",
]

Tier = Literal["dev", "prod"]
Dtype = Literal["BOOL", "INT32", "INT64", "FP32", "FP64", "BYTES"]
"""Open Inference Protocol datatypes; BYTES holds UTF-8 strings."""


Logical = Literal["integer", "boolean", "datetime", "date", "duration"]
"""What the values are where the datatype alone does not say it; see `themisto.serving.portable.values`."""


def _unsaid(value: object) -> bool:
    """Left out of the JSON: so a release of an earlier version keeps its content hash."""
    return value is None


class Column(Model):
    """One input or output tensor: the batch axis comes first and is not part of `shape`.

    A DataFrame column is a Column with shape `(1,)`; class probabilities have shape `(n_classes,)`.
    How values are written as tensors, missing ones too, is told in `themisto.serving.portable.values`.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    dtype: Dtype
    shape: tuple[Number, ...] = (1,)
    logical: Logical | None = Field(
        None, exclude_if=_unsaid, description="what the values are where the datatype does not say it"
    )
    zone: str | None = Field(None, exclude_if=_unsaid, description="time zone of times; the tensor holds UTC")
    missing: str | int | None = Field(
        None, exclude_if=_unsaid, description="what stands for a missing value; NaN in FP32 and FP64"
    )


class Signature(Model):
    """What goes in and what comes out, in order."""

    inputs: tuple[Column, ...]
    outputs: tuple[Column, ...]


class ServingConfig(Model):
    """How Triton runs the model, and how many requests the gateway lets through to it."""

    max_batch: Annotated[int, Field(ge=1, le=65_536)] = 64
    queue_delay_us: Annotated[int, Field(ge=0, le=60_000_000)] | None = Field(
        None, description="how long Triton waits for requests to compute together; None: each is computed by itself"
    )
    instances: Annotated[int, Field(ge=1, le=1024)] = 1
    warmup: Annotated[int, Field(ge=0, le=100_000)] = 1
    max_concurrent: Annotated[int, Field(ge=1, le=10_000)] = Field(
        512, description="requests on their way to it at one time; more are answered 503 at once"
    )
    preferred_batches: tuple[PositiveInt, ...] = Field(
        (), description="sizes that are sent off without waiting for more; rising, none over max_batch", max_length=16
    )
    cache: bool = Field(False, description="the same request again is answered from memory")
    priority: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="a model of priority 2 gets half the turns of one of 1, where both have one; None: unlimited"
    )
    rate_per_s: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="requests a second for the endpoint, all callers together; more are answered 429"
    )

    @property
    def batches(self) -> bool:
        """Whether Triton puts requests together. It then may leave one lying for half a second (docs/observing.md)."""
        return self.queue_delay_us is not None or bool(self.preferred_batches)

    @model_validator(mode="after")
    def _preferred_fit(self) -> Self:
        if list(self.preferred_batches) != sorted(set(self.preferred_batches)):
            msg = "preferred batch sizes must rise"
            raise ValueError(msg)
        if self.preferred_batches and self.preferred_batches[-1] > self.max_batch:
            msg = f"a preferred batch of {self.preferred_batches[-1]} is over the largest, {self.max_batch}"
            raise ValueError(msg)
        return self


Kind = Literal["onnx", "python", "chain"]
"""What an artifact is; its layout is told in `themisto_hub.model_server.repository`."""


class Artifact(Model):
    """The exported model: one file, stored by its digest at the control plane."""

    kind: Kind
    sha256: Sha256
    size_bytes: PositiveInt

    @property
    def is_code(self) -> bool:
        """Whether somebody's code runs in it: then it does so apart, in its group's own model server."""
        return self.kind != "onnx"


class Golden(Model):
    """Requests whose answers a release must repeat: column name to list of values, row by row."""

    inputs: Mapping[str, list[Json]]
    outputs: Mapping[str, list[Json]]
    rtol: Annotated[FiniteFloat, Field(ge=0)] = 1e-4
    atol: Annotated[FiniteFloat, Field(ge=0)] = 1e-5


class Fallback(Model):
    """What answers when neither the release nor the one before it does: first the rule, then the default.

    default: output name to the value of one row; callers get it once for each of theirs.
    rule: a function of the same columns with the same outputs, released with the model.
    """

    default: Mapping[str, Json] | None = None
    rule: Artifact | None = None
    after_ms: Annotated[int, Field(ge=1, le=10_000)] = Field(1000, description="how long each answer may take")


Personal = Literal["hash", "encrypt", "drop"]
"""What the prediction log keeps of a personal column: a keyed hash, a ciphertext, nothing."""


class ReleaseRequest(Model):
    """All that a release records, as its author posts it (the server adds number, author and hash)."""

    group: Slug
    tier: Tier = "dev"
    artifact: Artifact
    signature: Signature
    serving: ServingConfig = ServingConfig()
    golden: Golden
    feature_service: str | None = Field(None, description="name@version whose features the gateway looks up")
    fallback: Fallback | None = None
    personal: Mapping[str, Personal] = Field({}, description="columns about a person, and what the log keeps of them")
    profile: Slug | None = None
    run_id: str | None = None
    model_version: str | None = Field(None, description="models:/name/version in the registry")
    git_commit: str | None = None
    image: str | None = None
    lock_sha256: Sha256 | None = None
    data_sha256: Sha256 | None = None
    data_rows: NonNegativeInt | None = None
    cell: str = Field("", description="source of the cell that was deployed", max_length=200_000)
    metrics: Mapping[str, FiniteFloat] = {}
    parameters: Mapping[str, str] = {}
    slo: Mapping[str, str] = {}
    quality: Quality | None = Field(None, description="gates it must pass on a hold-out before any traffic")
    rollout: RolloutRequest = RolloutRequest()

    @property
    def content_hash(self) -> Sha256:
        """SHA-256 over the canonical JSON of everything but the rollout: same content, same release."""
        content = self.model_dump(mode="json", exclude={"rollout"})
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Release(ReleaseRequest):
    """One immutable record behind an endpoint, shown as `credit@7`."""

    id: Ulid
    endpoint: EndpointName
    number: PositiveInt
    author: UserName
    created_at: UtcTime
    hash: Sha256

    def __str__(self) -> str:
        return f"{self.endpoint}@{self.number}"


class Endpoint(Model):
    """A stable name that clients call."""

    name: EndpointName
    group: Slug
    tier: Tier
    demo: bool = False
    stable: PositiveInt | None = Field(None, description="number of the release that carries the rest of the traffic")
    candidate: PositiveInt | None = Field(None, description="number of the release that traffic moves to")
    weight_pct: Annotated[int, Field(ge=0, le=100)] = 0
    strategy: Strategy | None = None
    rollout: Rollout | None = Field(None, description="the latest one")
    pinned: Quality | None = Field(None, description="gates that every release must pass")
    retired: bool = False
    offered_to: Slug | None = Field(None, description="the group that may take the name over")
    updated_at: UtcTime


class EndpointCaller(Model):
    """Who was answered by one version of a name, how often, and when last."""

    caller: str
    endpoint: EndpointName
    version: PositiveInt
    count: PositiveInt
    last: UtcTime


def triton_name(endpoint: str, number: int) -> str:
    """The model's name inside Triton, which is also what `x-release` says: `credit--7`."""
    return f"{endpoint}--{number}"
