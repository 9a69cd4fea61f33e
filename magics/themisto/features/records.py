"""What is on record about feature views and services: versions, rows, freshness, materializations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import Field, NonNegativeInt, PositiveInt

from themisto.features.dtypes import OIP, Dtype, stored
from themisto.features.models import Column, FeatureView, Online, OnMissing
from themisto.features.on_demand import OnDemand, asked_columns
from themisto.features.windows import Windows
from themisto.types import Identifier, Json, Model, Sha256, Ulid, UtcTime, utcnow

__all__ = [
    "Erasure",
    "Freshness",
    "Materialization",
    "PoisonedMessage",
    "Pushed",
    "Quarantine",
    "RegisteredView",
    "ServiceColumn",
    "ServiceSpec",
    "Streamed",
    "ViewData",
]


class ServiceColumn(Model):
    """One column of a service: where it comes from and what it is called for the model."""

    name: Annotated[str, Field(max_length=100)]
    view: Identifier
    view_version: PositiveInt
    feature: Identifier
    dtype: Dtype
    personal: bool = False

    @property
    def oip(self) -> str:
        return OIP[self.dtype]


class ServiceSpec(Model):
    """One version of a feature service, resolved: all that historical joins, reads and the gateway need."""

    name: Identifier
    version: PositiveInt
    group: str = Field("", description="its owner; empty where there is no workbench")
    keys: tuple[Column, ...]
    columns: tuple[ServiceColumn, ...]
    view_keys: Mapping[str, tuple[Identifier, ...]]
    ttl_s: Mapping[str, float | None]
    on_missing: OnMissing
    defaults: Mapping[str, Json]
    max_age_s: float | None = None
    on_demand: tuple[OnDemand, ...] = ()
    windows: Mapping[str, Windows] = {}
    """For each windowed view what it computes of its events."""
    online: Mapping[str, Online] = {}
    """How the online store keeps each view, as its definition says now."""

    @property
    def ref(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def views(self) -> dict[str, int]:
        """View name to the version it is pinned to, in order."""
        return {c.view: c.view_version for c in self.columns}

    @property
    def request(self) -> tuple[Column, ...]:
        """What the request brings for its on-demand features."""
        return asked_columns(self.name, self.on_demand)

    @property
    def brought(self) -> tuple[str, ...]:
        """What a request by key brings: the keys, and what on-demand features are computed of."""
        return tuple(c.name for c in (*self.keys, *self.request))

    @property
    def inputs(self) -> tuple[ServiceColumn | Column, ...]:
        """What its on-demand features look at."""
        return (*self.columns, *self.request)

    @property
    def outputs(self) -> tuple[ServiceColumn | OnDemand, ...]:
        """All that a model sees of it."""
        return (*self.columns, *self.on_demand)

    @cached_property
    def stand_ins(self) -> Mapping[str, Any]:
        """The defaults, as a store would give them."""
        return {c.name: stored(c.dtype, self.defaults[c.name]) for c in self.columns if c.name in self.defaults}

    def of(self, view: str) -> list[ServiceColumn]:
        return [c for c in self.columns if c.view == view]


class Quarantine(Model):
    """Rows that are not as their view expects: a Parquet file of their own.

    reasons: how many rows of each reason; the most frequent ones.
    cleared: whether the online store has been freed of what it may have had of these rows.
    """

    sha256: Sha256
    rows: PositiveInt
    reasons: Mapping[str, PositiveInt] = {}
    cleared: bool = False


class Judged(Protocol):
    """Rows that came in: when, by which rules they were judged, which were kept apart, and how many nowhere."""

    @property
    def sha256(self) -> str: ...

    @property
    def written_at(self) -> datetime: ...

    @property
    def rules(self) -> str: ...

    @property
    def quarantined(self) -> tuple[Quarantine, ...]: ...

    @property
    def left_out(self) -> Mapping[str, int]: ...


_SEVERAL = "several"


class ViewData(Model):
    """The rows behind a view: one Parquet file, known by its digest.

    rules: digest of the expectations that these rows met, empty for none, "several" where not all met the same.
    quarantined: the rows that came with them and did not.
    left_out: how many rows that came are kept nowhere, not even there, by the reason.
    """

    sha256: Sha256
    rows: NonNegativeInt
    size_bytes: PositiveInt
    first_at: UtcTime | None = None
    last_at: UtcTime | None = None
    written_at: UtcTime
    rules: str = ""
    quarantined: tuple[Quarantine, ...] = ()
    left_out: Mapping[str, PositiveInt] = {}

    @property
    def quarantined_rows(self) -> int:
        return sum(q.rows for q in self.quarantined)

    def same_as(self, other: Judged) -> bool:
        """Whether it is the same rows, judged alike, and as many left out."""
        both: tuple[Judged, Judged] = (self, other)
        mine, theirs = ((d.sha256, d.rules, [q.sha256 for q in d.quarantined], dict(d.left_out)) for d in both)
        return mine == theirs

    def cleared(self, sha256: Collection[str] | None = None) -> Self:
        """The same, once the online store has been freed of quarantined rows: of these files, or of all."""
        done = tuple(
            q.model_copy(update={"cleared": True}) if sha256 is None or q.sha256 in sha256 else q
            for q in self.quarantined
        )
        return self.model_copy(update={"quarantined": done})

    def made_of(self, parts: Sequence[Judged]) -> Self:
        """The same, as one file of several: as old as the newest, judged as they were."""
        rules = {part.rules for part in parts}
        apart = sorted((q for part in parts for q in part.quarantined), key=lambda q: not q.cleared)
        left_out: Counter[str] = Counter()
        for part in parts:
            left_out.update(part.left_out)
        return self.model_copy(
            update={
                "written_at": max(part.written_at for part in parts),
                "rules": rules.pop() if len(rules) == 1 else _SEVERAL,
                "quarantined": tuple({q.sha256: q for q in apart}.values()),  # of twins the one not cleared
                "left_out": dict(left_out),
            }
        )


class Pushed(Model):
    """What became of pushed rows. They are kept in any case.

    online: whether they can be read online now; else they come there by themselves when the store answers again.
    quarantined: those that are not as the view expects; they are kept apart.
    doubles: those whose key and time another row of the push has too; they are kept nowhere.
    """

    view: Identifier
    rows: NonNegativeInt
    online: bool
    quarantined: NonNegativeInt = 0
    doubles: NonNegativeInt = 0


class Erasure(Model):
    """The removal of one entity from all views about it. Who it was is not kept."""

    id: Ulid
    entity: Identifier
    group: str = ""
    state: Literal["waiting", "done"] = "waiting"
    views: tuple[str, ...] = ()
    files: NonNegativeInt = 0
    """Files of rows that were written anew without it."""
    message: str = ""
    requested_by: str = ""
    created_at: UtcTime
    done_at: UtcTime | None = None


class PoisonedMessage(Model):
    """A message of a view's topic that is no row of it: where it stands, and why."""

    topic: str
    partition: NonNegativeInt
    offset: NonNegativeInt
    size_bytes: NonNegativeInt
    reason: str
    at: UtcTime


class Streamed(Model):
    """How the topic comes into a view.

    lag: messages that wait; None before it was measured. problem: why it does not go on right now; empty if it does.
    reached: the newest event time that came by it. poisoned: messages that were no rows, ever.
    """

    topic: str
    lag: NonNegativeInt | None = None
    problem: str = ""
    reached: UtcTime | None = None
    poisoned: NonNegativeInt = 0


class Freshness(Model):
    """How far a view reaches, offline and online.

    fresh_s: how old the newest event may be, as its view promises.
    quarantined: rows that are not as expected.
    """

    view: Identifier
    version: PositiveInt
    offline_to: UtcTime | None = None
    online_to: UtcTime | None = None
    online_rows: NonNegativeInt = 0
    materialized_at: UtcTime | None = None
    fresh_s: float | None = None
    quarantined: NonNegativeInt = 0
    stream: Streamed | None = None


class RegisteredView(Model):
    """A view as the registry has it."""

    view: FeatureView
    group: str = ""
    author: str = ""
    created_at: UtcTime
    data: ViewData | None = None
    freshness: Freshness | None = None


class Materialization(Model):
    """One run from the offline to the online store."""

    id: Ulid
    view: Identifier
    group: str = ""
    since: UtcTime | None = None
    until: UtcTime | None = None
    full: bool = False
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    rows_written: NonNegativeInt = 0
    rows_total: NonNegativeInt = 0
    """Rows that differ from what was online; all of them for a full run."""
    message: str = ""
    requested_by: str = ""
    created_at: UtcTime
    updated_at: UtcTime = Field(default_factory=utcnow)
