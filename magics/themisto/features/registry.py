"""Where definitions, rows and the newest values are: on this machine or behind the control plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from themisto.errors import NotFound
from themisto.features.answers import Answer
from themisto.features.models import Entity, FeatureService, FeatureView
from themisto.features.records import (
    Erasure,
    Freshness,
    Materialization,
    PoisonedMessage,
    Pushed,
    RegisteredView,
    ServiceSpec,
    ViewData,
)

__all__ = ["Registry", "Watch", "ignored", "without_rows"]


Watch = Callable[[Materialization], None]
"""Who is told how a materialization goes on."""


def ignored(run: Materialization) -> None:
    """Tells nobody."""


def without_rows(view: RegisteredView) -> NotFound:
    """The error for a view that has none offline."""
    return NotFound(
        f"The view '{view.view.name}' has no rows.",
        "Apply it together with its source, or push to it: what is pushed is part of its rows a moment later.",
    )


class Registry(Protocol):
    """What `Features` works on; both implementations pass the same contract suite.

    - Definitions are immutable: putting one that differs makes the next version, putting the same
      one again returns what is there.
    - A view's rows are one Parquet file known by its digest; `file` gives it as a local path.
    - Unknown names raise NotFound, naming what there is.
    """

    def put_entity(self, entity: Entity) -> Entity: ...

    def entity(self, name: str) -> Entity: ...

    def put_view(self, view: FeatureView) -> RegisteredView: ...

    def put_rows(self, view: FeatureView, source: Any) -> ViewData:
        """Store the rows of a registered view in place of the ones before; those it does not expect, apart."""
        ...

    def push(self, view: str, source: Any) -> Pushed:
        """Add rows to a registered view and bring them online."""
        ...

    def erase(self, entity: str, keys: Mapping[str, Any]) -> Erasure:
        """Remove one entity from all views about it, online and offline; returns when it is done."""
        ...

    def put_service(self, service: FeatureService) -> ServiceSpec: ...

    def views(self) -> list[RegisteredView]: ...

    def view(self, name: str) -> RegisteredView: ...

    def services(self) -> list[ServiceSpec]: ...

    def service(self, ref: str) -> ServiceSpec: ...

    def file(self, view: RegisteredView) -> Path:
        """The view's rows. Raises NotFound if it has none."""
        ...

    def poison(self, view: RegisteredView) -> list[PoisonedMessage]:
        """Messages of the view's topics that were no rows, the newest first."""
        ...

    def quarantine(self, view: RegisteredView) -> list[Path]:
        """Files of the rows that came with the view's own and are not as it expects."""
        ...

    def materialize(
        self, view: str, since: datetime | None, until: datetime | None, *, full: bool = False, watch: Watch = ignored
    ) -> Materialization:
        """Bring the newest rows online; returns when it is done. Raises Failed or Invalid with the reason.

        full: write all rows, not only those that differ from what was brought online before.
        watch: called with the state of the run while it runs.
        Rows that were judged by other expectations than the view's are judged again before. Where rows in
        quarantine may be online, their entities are first taken off, and all rows brought whatever was asked.
        """
        ...

    def read(
        self,
        ref: str,
        entities: Sequence[Mapping[str, Any]],
        *,
        features: Sequence[str] | None = None,
        history: int | None = None,
    ) -> Answer:
        """What is online of some entities, each with the same columns; history: so many last values of each.

        features: only these; default: all, the on-demand ones too if the entities bring what they are computed of.
        """
        ...

    def freshness(self) -> list[Freshness]: ...
