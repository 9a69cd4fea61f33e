"""The registry: definitions go in, versions come out; nothing that was read once ever changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from themisto.errors import Invalid, NotFound
from themisto.features.models import Entity, FeatureService, FeatureView
from themisto.features.on_demand import check_on_demand
from themisto.features.records import Freshness, RegisteredView, ServiceSpec
from themisto.features.resolve import changed, resolve
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.features import lookup
from themisto_hub.control.features.stream_state import registered
from themisto_hub.control.features.tables import EntityRow, ServiceRow, ViewRow
from themisto_hub.control.features.topics import check_topic

__all__ = ["Registry", "group_of"]


def group_of(caller: Caller, group: str | None) -> str:
    """The group a caller acts for: the one named, which must be hers, else her only one."""
    if group:
        caller.require_group(group)
        return group
    if len(caller.groups) != 1:
        raise Invalid(f"{caller.name} is in {len(caller.groups)} groups.", "Say which: ?group=…")
    return caller.groups[0]


class Registry:
    """Entities, views and services of each group. Members read and, with the scope, write their own."""

    def __init__(self, control: Control, published: Callable[[], None]) -> None:
        self._control = control
        self._published = published

    def put_entity(self, caller: Caller, group: str, entity: Entity) -> Entity:
        """Register or change an entity; views keep the one they were made with."""
        definition = entity.model_dump(mode="json")
        with self._control.db.write() as session:
            row = session.get(EntityRow, (group, entity.name))
            before = row.definition if row else None
            if before == definition:
                return entity
            now = self._control.clock()
            session.merge(
                EntityRow(group_name=group, name=entity.name, definition=definition, author=caller.name, updated_at=now)
            )
            self._audit(session, caller, group, kind="entity", name=entity.name, before=before, after=definition)
        return entity

    def entity(self, group: str, name: str) -> Entity:
        """Raises NotFound."""
        with self._control.db.read() as session:
            row = session.get(EntityRow, (group, name))
            if row is None:
                raise NotFound(f"There is no entity '{name}'.", "Views name theirs: %features list.")
            return Entity.model_validate(row.definition)

    def put_view(self, caller: Caller, group: str, view: FeatureView) -> RegisteredView:
        """Register a view; a definition that means something else is its next version, what is only said is changed.

        Raises Refused for a topic that the group may not read.
        """
        check_topic(self._control, caller, group, view)
        with self._control.db.write() as session:
            query = select(ViewRow).where(ViewRow.group_name == group, ViewRow.name == view.name)
            last = session.scalars(query.order_by(ViewRow.version.desc()).limit(1)).first()
            definition = view.model_dump(mode="json", exclude={"version"})
            if last is not None and last.definition == definition:
                return registered(self._control, session, last)
            before = last.definition if last else None
            if last is None or last.sha256 != view.content_hash():
                last = ViewRow(
                    group_name=group,
                    name=view.name,
                    version=last.version + 1 if last else 1,
                    definition=definition,
                    sha256=view.content_hash(),
                    author=caller.name,
                    created_at=self._control.clock(),
                )
                session.add(last)
            else:
                last.definition = definition
            name = f"{view.name}@{last.version}"
            self._audit(session, caller, group, kind="view", name=name, before=before, after=definition)
            shown = registered(self._control, session, last)
        self._published()
        return shown

    def put_service(self, caller: Caller, group: str, service: FeatureService) -> ServiceSpec:
        """Register a service on the newest versions of its views; what differs is its next version."""
        if service.on_demand:
            self._check_on_demand(group, service)
        with self._control.db.write() as session:
            query = select(ServiceRow).where(ServiceRow.group_name == group, ServiceRow.name == service.name)
            last = session.scalars(query.order_by(ServiceRow.version.desc()).limit(1)).first()

            def view_of(name: str) -> FeatureView:
                return lookup.view_model(lookup.newest_view(session, group, name))

            spec = resolve(service, view_of, version=last.version + 1 if last else 1, group=group)
            if last is not None and not changed(ServiceSpec.model_validate(last.spec), spec):
                return lookup.spec_model(session, last)
            row = ServiceRow(
                group_name=group,
                name=service.name,
                version=spec.version,
                definition=service.model_dump(mode="json"),
                spec=spec.model_dump(mode="json"),
                author=caller.name,
                created_at=self._control.clock(),
            )
            session.add(row)
            before = last.definition if last else None
            self._audit(session, caller, group, kind="service", name=spec.ref, before=before, after=row.definition)
            session.flush()
            spec = lookup.spec_model(session, row)
        self._published()
        return spec

    def _check_on_demand(self, group: str, service: FeatureService) -> None:
        """Expressions are tried before anything is written: nobody waits for them. Raises Invalid."""
        with self._control.db.read() as session:

            def view_of(name: str) -> FeatureView:
                return lookup.view_model(lookup.newest_view(session, group, name))

            spec = resolve(service, view_of, version=1, group=group)
        check_on_demand(spec)

    def views(self, group: str, *, limit: int = 100, after: str = "") -> list[RegisteredView]:
        """The newest version of each view, by name."""
        with self._control.db.read() as session:
            query = select(ViewRow.name).where(ViewRow.group_name == group, ViewRow.name > after).distinct()
            names = session.scalars(query.order_by(ViewRow.name).limit(limit)).all()
            return [registered(self._control, session, lookup.newest_view(session, group, name)) for name in names]

    def view(self, group: str, name: str) -> RegisteredView:
        with self._control.db.read() as session:
            return registered(self._control, session, lookup.newest_view(session, group, name))

    def services(self, group: str, *, limit: int = 100, after: str = "") -> list[ServiceSpec]:
        """The newest version of each service, by name."""
        with self._control.db.read() as session:
            found = [spec for spec in lookup.specs(session, [group]) if spec.name > after]
        return found[:limit]

    def service(self, group: str, ref: str) -> ServiceSpec:
        with self._control.db.read() as session:
            return lookup.service_spec(session, ref, group)

    def freshness(self, group: str) -> list[Freshness]:
        return [view.freshness for view in self.views(group, limit=1000) if view.freshness is not None]

    def _audit(
        self, session: Session, caller: Caller, group: str, *, kind: str, name: str, before: Any, after: Any
    ) -> None:
        self._control.audit.append(
            session,
            actor=caller.name,
            action=f"feature_{kind}.put",
            object=f"feature_{kind}/{group}/{name}",
            group=group,
            before=before,
            after=after,
            request_id=caller.request_id,
        )
