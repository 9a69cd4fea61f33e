"""Applying definitions: what it would change, and changing it, in the order in which one needs another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, TypeVar

from themisto.errors import Invalid, NotFound
from themisto.features.changes import Change, change_of, change_of_service
from themisto.features.models import Entity, FeatureService, FeatureView
from themisto.features.records import RegisteredView, ServiceSpec
from themisto.features.registry import Registry
from themisto.features.resolve import resolve

__all__ = ["Applied", "Applying"]

_T = TypeVar("_T")


class Applied(NamedTuple):
    """What became of one definition."""

    change: Change
    thing: RegisteredView | ServiceSpec | Entity


class Applying:
    """Definitions, on their way into a registry."""

    def __init__(self, registry: Registry, told: Callable[[str], AbstractContextManager[None]]) -> None:
        """told: a context in which Ctrl-C says how things stand."""
        self.registry = registry
        self._told = told

    def apply(self, objects: Sequence[Entity | FeatureView | FeatureService]) -> Sequence[Applied]:
        return [Applied(self._change(thing, {}), self._apply(thing)) for thing in _ranked(objects)]

    def plan(self, objects: Sequence[Entity | FeatureView | FeatureService]) -> Sequence[Change]:
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
        with self._told(f"'{thing.name}' is defined and has the rows it had before"):
            data = self.registry.put_rows(registered.view, thing.source)
        return registered.model_copy(update={"data": data})


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
