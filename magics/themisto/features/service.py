"""Features: define, store, join to the past, read the present (control plane: /features)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from themisto.errors import Failed, Invalid, NotFound
from themisto.features.changes import Change, change_of, change_of_service
from themisto.features.models import Entity, FeatureService, FeatureView
from themisto.features.nouns import moment
from themisto.features.records import Erasure, Freshness, Materialization, Pushed, RegisteredView, ServiceSpec
from themisto.features.registry import Registry, Watch, ignored
from themisto.features.resolve import resolve

if TYPE_CHECKING:
    import pandas as pd

    from themisto.client import ControlPlane
    from themisto.features.findings import Findings
    from themisto.settings import Settings

__all__ = ["Applied", "Features", "Joined"]

_T = TypeVar("_T")


class Joined(NamedTuple):
    """A point-in-time join and what it was made with."""

    frame: pd.DataFrame
    spec: ServiceSpec
    at: str


class Applied(NamedTuple):
    """What became of one definition."""

    change: Change
    thing: RegisteredView | ServiceSpec | Entity


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

    def apply(self, *objects: Entity | FeatureView | FeatureService) -> Sequence[Applied]:
        """Register definitions, views with their rows; entities first, services last.

        Applying the same again changes nothing; a view or service that means something else becomes its next
        version. Each answer says what has changed and what that means to the data.
        Raises Invalid for what is no feature object, NotFound for a service that names an unknown view; what
        comes before it in the order is registered then.
        """
        return [Applied(self._change(thing, {}), self._apply(thing)) for thing in _ranked(objects)]

    def plan(self, *objects: Entity | FeatureView | FeatureService) -> Sequence[Change]:
        """What `apply` would change, and what that would mean to the data; nothing happens."""
        ranked = _ranked(objects)
        views = {thing.name: thing for thing in ranked if isinstance(thing, FeatureView)}
        return [self._change(thing, views) for thing in ranked]

    def _change(self, thing: Entity | FeatureView | FeatureService, views: Mapping[str, FeatureView]) -> Change:
        """views: those that will be registered before `thing`."""
        if isinstance(thing, Entity):
            return change_of(_known(lambda: self.registry.entity(thing.name)), thing)
        if isinstance(thing, FeatureView):
            on_record = _known(lambda: self.registry.view(thing.name))
            return change_of(on_record.view if on_record else None, thing)
        old = _known(lambda: self.registry.service(thing.name))

        def view_of(name: str) -> FeatureView:
            on_record = _known(lambda: self.registry.view(name)) if name in views else self.registry.view(name)
            if name not in views:
                return on_record.view if on_record else views[name]
            version = (on_record.view.version or 1) if on_record else 0
            same = on_record is not None and on_record.view.content_hash() == views[name].content_hash()
            return views[name].with_version(version if same else version + 1)

        return change_of_service(old, resolve(thing, view_of, version=1, group=old.group if old else ""))

    def _apply(self, thing: Entity | FeatureView | FeatureService) -> RegisteredView | ServiceSpec | Entity:
        if isinstance(thing, Entity):
            return self.registry.put_entity(thing)
        if isinstance(thing, FeatureService):
            return self.registry.put_service(thing)
        registered = self.registry.put_view(thing)
        if thing.source is None:
            return registered
        with _told_if_stopped(f"'{thing.name}' is defined and has the rows it had before"):
            data = self.registry.put_rows(registered.view, thing.source)
        return registered.model_copy(update={"data": data})

    def push(self, view: str | FeatureView, rows: Any) -> Pushed:
        """Add events to a view: readable online when this returns, and part of its past soon after.

        rows: DataFrame, Arrow table or path of a Parquet file, with the columns of the view, or of the source that
            its transform makes its rows of. Of two rows of one entity
        and event time the one created last counts, else the one pushed last; pushing again changes nothing.
        Raises Invalid for rows that do not fit; then none is kept.
        """
        name = view.name if isinstance(view, FeatureView) else view
        with _told_if_stopped("Either all rows are there or none"):
            transform = self.registry.view(name).view.transform
            return self.registry.push(name, rows if transform is None else transform.rows(rows, view=name))

    def erase(self, entity: str, **keys: Any) -> Erasure:
        """Remove one entity, such as a person, from all views about it: online, and from all rows there ever were.

        Later rows of it are kept out. There is no way back; the audit has that it was done, and by whom, not of whom.
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
                raise Invalid("as_of and history exclude each other.", "Join a spine of several times: historical().")
            found = self._as_of(spec, frame, moment(as_of))
            return found if features is None else found[[*frame.columns, *chosen(spec, features), "event_time"]]
        answer = self.registry.read(spec.ref, entities, features=features, history=history)
        if history is not None:
            return last_of(answer, frame)
        return pd.concat([frame, frame_of(answer, frame.index)], axis=1)

    def _as_of(self, spec: ServiceSpec, entities: pd.DataFrame, when: datetime | None) -> pd.DataFrame:
        frame = entities.assign(event_time=when)
        found = self.joined(frame.astype({"event_time": "datetime64[us, UTC]"}), spec.ref, at="event_time").frame
        return found[[*entities.columns, *(c.name for c in spec.outputs), "event_time"]]

    def historical(
        self,
        entities: pd.DataFrame | str,
        service: str,
        *,
        at: str | None = None,
        frames: Mapping[str, Any] | None = None,
        known: bool = False,
    ) -> pd.DataFrame:
        """`entities` with the features of `service` as they were at each row's time, never later.

        entities: a DataFrame, or one SELECT over `frames` and registered views.
        at: the column with the time; default: the views' own name for it, or the only time column.
        known: see only rows that had been created by then (of views with a created time).
        """
        return self.joined(entities, service, at=at, frames=frames, known=known).frame

    def joined(
        self,
        entities: pd.DataFrame | str,
        service: str,
        *,
        at: str | None = None,
        frames: Mapping[str, Any] | None = None,
        known: bool = False,
    ) -> Joined:
        """`historical`, with the service version and the time column that were used."""
        from themisto.features.join import point_in_time, time_column

        spec = self.registry.service(service)
        views = {name: self.registry.view(name) for name in spec.views}
        frame = self.query(entities, frames or {}) if isinstance(entities, str) else entities
        definitions = {name: registered.view for name, registered in views.items()}
        files = {name: self.registry.file(registered) for name, registered in views.items()}
        _still_there(spec, views)
        at = at or time_column(frame, {name: view.at for name, view in definitions.items()})
        return Joined(point_in_time(frame, at, spec, files, definitions, known=known), spec, at)

    def query(self, sql: str, frames: Mapping[str, Any]) -> pd.DataFrame:
        """One SELECT over the DataFrames it names and registered views; no files, no network."""
        from themisto.features.sql import query

        return query(sql, frames, self._rows_of)

    def _rows_of(self, name: str) -> Any | None:
        import pyarrow.dataset as ds

        views = {r.view.name: r for r in self.registry.views()}
        return ds.dataset(self.registry.file(views[name])) if name in views else None

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
        _still_there(spec, {name: self.registry.view(name) for name in spec.views})
        checking = Checking(self.registry, spec, sample=sample, seed=seed)
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
    except KeyboardInterrupt:
        raise Failed(f"You stopped it. {state}.", "Run the same command again; doing it twice does no harm.") from None


def _ranked(
    objects: Sequence[Entity | FeatureView | FeatureService],
) -> Sequence[Entity | FeatureView | FeatureService]:
    for thing in objects:
        if not isinstance(thing, Entity | FeatureView | FeatureService):
            raise Invalid(
                f"A {type(thing).__name__} cannot be applied.",
                "Apply an Entity, a FeatureView or a FeatureService.",
            )
    return sorted(objects, key=lambda o: (Entity, FeatureView, FeatureService).index(type(o)))


def _known(find: Callable[[], _T]) -> _T | None:
    try:
        return find()
    except NotFound:
        return None


def _still_there(spec: ServiceSpec, views: Mapping[str, RegisteredView]) -> None:
    """Raises Invalid where a view's newest version lacks what an older service reads."""
    for name in spec.views:
        view, windows = views[name].view, spec.windows.get(name)
        read = {(c.feature, c.dtype) for c in spec.of(name)}
        needed = read if windows is None else {(c.name, c.dtype) for c in windows.stored}
        have = {(c.name, c.dtype) for c in view.stored}
        if (windows is None) != (view.windows is None) or not needed <= have:
            column, dtype = min(needed - have, default=min(read))
            raise Invalid(
                f"{spec.ref} reads {name}:{column} ({dtype}), and version {view.version} of the view has it no more.",
                f"Apply the service '{spec.name}' again, on the view as it is now.",
            )
