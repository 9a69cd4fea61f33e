"""What the consumer of views' topics and the control plane tell each other."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from themisto.features.messages import Poison
from themisto.features.models import FeatureView
from themisto.types import Model, Slug, UtcTime
from themisto_hub.streams.metrics import StreamState

__all__ = ["FEATURE_STREAMS_KEY", "Batch", "Fed", "Flow", "Report", "Stretch"]

FEATURE_STREAMS_KEY = "x-feature-streams-key"


class Flow(Model):
    """A view that is fed by its topic; `view` is its newest version."""

    group: Slug
    view: FeatureView

    @property
    def name(self) -> str:
        """As metrics and pages call it: `group/view`."""
        return f"{self.group}/{self.view.name}"

    @property
    def version(self) -> int:
        return self.view.version or 1

    @property
    def topic(self) -> str:
        assert self.view.stream is not None
        return self.view.stream.name

    @property
    def consumer_group(self) -> str:
        """Kafka's name for those who share out its partitions."""
        return f"themisto-features.{self.group}.{self.view.name}.v{self.version}"


class Stretch(Model):
    """A piece of a partition: from where the view has it on record (None: nothing of it yet), up to before `next`."""

    partition: NonNegativeInt
    since: NonNegativeInt | None
    next: NonNegativeInt


class Batch(Model):
    """Messages that were read: which ones, and which of them are no rows. The rows themselves follow as Parquet."""

    topic: str
    version: PositiveInt
    stretches: Annotated[tuple[Stretch, ...], Field(min_length=1)]
    poison: tuple[Poison, ...] = ()
    reached: UtcTime | None = None
    """The newest event time in it."""


class Fed(Model):
    """What became of a batch; its rows are kept in any case.

    online: whether they can be read online now; else they come there by themselves.
    quarantined: rows that are not as the view expects.
    """

    rows: NonNegativeInt = 0
    quarantined: NonNegativeInt = 0
    online: bool = True


class Report(Model):
    """How the streams of one process do."""

    states: tuple[StreamState, ...] = ()
