"""Features: define, store, join to the past, read the present (control plane: /features)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from themisto.errors import Failed, Invalid
from themisto.features.applying import Applied, Applying
from themisto.features.changes import Change
from themisto.features.engine import Bounds, Told, scratch, was_stopped
from themisto.features.holding import hold
from themisto.features.models import Entity, FeatureService, FeatureView
from themisto.features.nouns import moment
from themisto.features.records import Erasure, Freshness, Materialization, Pushed, RegisteredView, ServiceSpec
from themisto.features.registry import Registry, Watch, ignored
from themisto.features.training import Joined, Training, still_there

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from themisto.client import ControlPlane
    from themisto.features.findings import Findings
    from themisto.features.selected import Select
    from themisto.settings import Settings

__all__ = ["Applied", "Features", "Joined"]


class Features:
    """Entities, views and services of this notebook's group; of this machine, where there is no workbench."""

    def __init__(self, settings: Settings, control: ControlPlane | None, registry: Registry | None = None) -> None:
        self._settings = settings
        self._control = control
        self._given = registry

    @cached_property
    def registry(self) -> Registry:
        if self._given is not None:
            return self._given
        if self._control is None:
            from themisto.features.local import LocalRegistry

            return LocalRegistry(self._settings.home)
        from themisto.features.remote import RemoteRegistry

        return RemoteRegistry(self._control, self._settings.home, timeout_s=self._settings.timeout_s)

    @property
    def _training(self) -> Training:
        return Training(self.registry, Bounds.of(self._settings))

    def apply(self, *objects: Entity | FeatureView | FeatureService) -> Sequence[Applied]:
        """Register definitions, views with their rows; entities first, services last.

        Applying the same again changes nothing; a view or service that means something else becomes its next
        version. Each answer says what has changed and what that means to the data.
        Raises Invalid for what is no feature object, NotFound for a service that names an unknown view; what
        comes before it in the order is registered then.
        """
        return Applying(self.registry, _told_if_stopped).apply(objects)

    def plan(self, *objects: Entity | FeatureView | FeatureService) -> Sequence[Change]:
        """What `apply` would change, and what that would mean to the data; nothing happens."""
        return Applying(self.registry, _told_if_stopped).plan(objects)

    def push(self, view: str | FeatureView, rows: Any) -> Pushed:
        """Add events to a view: readable online when this returns, and part of its past soon after.

        rows: DataFrame, Arrow table or path of a Parquet file, with the columns of the view, or of the source that
            its transform makes its rows of. Of two rows of one entity
        and event time the one created last counts, else the one pushed last; pushing again changes nothing.
        Raises Invalid for rows that do not fit; then none is kept.
        """
        name = view.name if isinstance(view, FeatureView) else view
        state = "Either all rows are there or none" if self._control else "The rows may be there, and not yet online"
        with _told_if_stopped(state):
            transform = self.registry.view(name).view.transform
            return self.registry.push(name, rows if transform is None else transform.rows(rows, view=name))

    def erase(self, entity: str, **keys: Any) -> Erasure:
        """Remove one entity, such as a person, from all views about it: online, and from all rows there ever were.

        Later rows of it are kept out. There is no way back; the audit has that it was done, and by whom, not of whom.
        Copies of the rows in this notebook's home go too; those in other homes a week after their last use at most.
        Raises NotFound for an entity that no view is about, Invalid for keys that are not its.
        """
        plain = {name: value.item() if hasattr(value, "item") else value for name, value in keys.items()}
        with _told_if_stopped("It goes on at the workbench" if self._control else "Run it again to be sure"):
            return self.registry.erase(entity, plain)

    def materialize(
        self,
        view: str,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        *,
        full: bool = False,
        watch: Watch = ignored,
    ) -> Materialization:
        """Bring of each entity the newest row online: those that differ from what was brought there before.

        since, until: only events in this span, all of them. full: all rows, for an online store that lost some.
        Doing it again changes nothing. watch: called with the state of the run while it runs.
        """
        with _told_if_stopped("It goes on at the workbench" if self._control else "Rows sent so far are online"):
            return self.registry.materialize(view, moment(since), moment(until), full=full, watch=watch)

    def get(
        self,
        service: str,
        *,
        as_of: datetime | str | None = None,
        features: Sequence[str] | None = None,
        history: int | None = None,
        **keys: Any,
    ) -> pd.DataFrame:
        """The newest features online: one row, or one a list element (`origin=["JFK", "LGA"]`).

        Columns: the keys, the service's features, `event_time`. An unknown entity has nulls
        (the service's defaults, if it has them). On-demand features are there if their request columns are given too.
        as_of: a moment in the past: the features as they were then, from the offline store; `event_time` is `as_of`.
        features: only these.
        history: the last values of each instead: one row an entity and event time, the newest first; a view that has
            no row at that time has nulls. A view keeps as many as its `online=Online(keep=…)` says.
        """
        import pandas as pd

        from themisto.features.frames import chosen, entities_in, frame_of, last_of

        spec = self.registry.service(service)
        entities, frame = entities_in(spec, keys)
        if as_of is not None:
            if history is not None:
                raise Invalid(
                    "As of a time there is one value of each entity, not the last ones (--as-of, --last).",
                    "Leave one out, or join rows of several times with %%features.",
                )
            found = self._as_of(spec, frame, moment(as_of))
            return found if features is None else found[[*frame.columns, *chosen(spec, features), "event_time"]]
        answer = self.registry.read(spec.ref, entities, features=features, history=history)
        if history is not None:
            return last_of(answer, frame)
        return pd.concat([frame, frame_of(answer, frame.index)], axis=1)

    def _as_of(self, spec: ServiceSpec, entities: pd.DataFrame, when: datetime | None) -> pd.DataFrame:
        frame = entities.assign(event_time=when)
        found: pd.DataFrame = self.joined(
            frame.astype({"event_time": "datetime64[us, UTC]"}), spec.ref, at="event_time"
        ).frame
        wanted = [*entities.columns, *(c.name for c in spec.outputs), "event_time"]
        return found[wanted]

    def historical(
        self,
        entities: Any,
        service: str,
        *,
        at: str | None = None,
        frames: Mapping[str, Any] | None = None,
        known: bool = False,
        to: str | Path | None = None,
    ) -> Any:
        """`entities` with the features of `service` as they were at each row's time, never later.

        entities: a DataFrame (pandas, polars), Arrow table, batch or reader, the path of a Parquet file, or one SELECT
            over `frames` and registered views. The answer is of the same kind (of a path or reader: an Arrow table;
            of a SELECT: a DataFrame).
        at: the column with the time; default: the views' own name for it, or the only time column.
        known: see only rows that had been created by then (of views with a created time).
        to: a Parquet file for the answer, which may be larger than memory then; its path is the answer.
        """
        return self.joined(entities, service, at=at, frames=frames, known=known, to=to).frame

    def joined(
        self,
        entities: Any,
        service: str,
        *,
        at: str | None = None,
        frames: Mapping[str, Any] | None = None,
        known: bool = False,
        to: str | Path | None = None,
        told: Told | None = None,
    ) -> Joined:
        """`historical`, with the service version and the time column that were used. told: hears how far it is."""
        how: dict[str, Any] = {"at": at, "frames": frames or {}, "known": known, "to": to, "told": told}
        return self._training.joined(entities, service, **how)

    def select(self, sql: str, **tables: Any) -> Select:
        """A source for a view: one SELECT over `tables` (DataFrames, Parquet files) and registered views."""
        return self._training.select(sql, tables)

    def query(self, sql: str, frames: Mapping[str, Any]) -> pd.DataFrame:
        """One SELECT over the DataFrames it names and registered views; no files, no network."""
        return self._training.query(sql, frames)

    def check(
        self,
        service: str,
        against: pd.DataFrame | None = None,
        *,
        label: str | None = None,
        at: str | None = None,
        split: str | pd.DataFrame | None = None,
        sample: int = 100,
        seed: int = 0,
        raise_on: str | None = None,
    ) -> Findings:
        """What is wrong with a service, its rows, and the training rows made with it; worst first.

        against: training rows, with keys and time, and with the features or without; or fresh rows to compare.
        label: the column to be predicted. at: the column with the rows' time, as in `historical`.
        split: the column that names each row's part, or the other part.
        sample, seed: how many entities of each view are held against the online store, and which.
        raise_on: "error", "warning" or "note": raise Failed for a finding as bad as that.
        """
        from themisto.features.checking import Checking

        spec = self.registry.service(service)
        with scratch(Bounds.of(self._settings)) as folder:
            held = {name: hold(self.registry, name, folder) for name in spec.views}
            still_there(spec, {name: view for name, (view, _) in held.items()})
            checking = Checking(self.registry, spec, held, sample=sample, seed=seed)
            found = checking.findings(against, label=label, at=at, split=split)
        if raise_on is not None:
            found.raise_on(raise_on)
        return found

    def quarantine(self, view: str) -> pd.DataFrame:
        """Rows that are not as the view expects; a column says why. None of them is in a join or online.

        Of a view with a topic the messages that were no rows, too: `_topic`, `_partition` and `_offset` say which ones.
        """
        from themisto.features.judging import REASON, quarantined, with_messages

        registered = self.registry.view(view)
        rows = quarantined(registered.view, self.registry.quarantine(registered))
        if registered.view.stream is None:
            return rows
        poison = [
            {"_topic": p.topic, "_partition": p.partition, "_offset": p.offset, REASON: p.reason}
            for p in self.registry.poison(registered)
        ]
        return with_messages(rows, poison)

    def list(self) -> tuple[Sequence[RegisteredView], Sequence[ServiceSpec]]:
        """The newest version of each view and each service."""
        return self.registry.views(), self.registry.services()

    def show(self, view: str) -> RegisteredView:
        return self.registry.view(view)

    def freshness(self) -> Sequence[Freshness]:
        """How far each view reaches, offline and online."""
        return self.registry.freshness()

    def service(self, ref: str) -> ServiceSpec:
        """One version of a service: `"name"` (the newest) or `"name@2"`."""
        return self.registry.service(ref)


@contextmanager
def _told_if_stopped(state: str) -> Iterator[None]:
    """Ctrl-C says in one sentence how things stand."""
    try:
        yield
    except (KeyboardInterrupt, RuntimeError) as error:
        if not was_stopped(error):
            raise
        raise Failed(f"You stopped it. {state}.", "Run the same command again; doing it twice does no harm.") from None
