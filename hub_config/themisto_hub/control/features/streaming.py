"""Streams of views: which topics are to be read, how far they were, and the rows that come by them.

How far a topic is read stands in our own database and changes in the transaction that keeps the rows. So a consumer
that is killed anywhere, or that comes back after it lost its partitions, can neither lose a message nor bring one
twice: what it sends is taken if it begins where the record ends, else refused whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from themisto.errors import Conflict, NotFound
from themisto.features.records import PoisonedMessage
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.features import lookup
from themisto_hub.control.features.pushing import Pushing
from themisto_hub.control.features.stream_tables import PlaceRow, PoisonRow, StreamRow
from themisto_hub.control.features.tables import ViewRow
from themisto_hub.control.features.topics import is_allowed
from themisto_hub.feature_streams.models import Batch, Fed, Flow, Report

__all__ = ["KEPT_POISON", "Streaming"]

KEPT_POISON = 10_000
"""Messages of a view that were no rows: the newest are remembered, all are counted."""


class Streaming:
    """What the consumer of topics is told, and what it brings."""

    def __init__(self, control: Control, pushing: Pushing) -> None:
        self._control = control
        self._pushing = pushing

    def flows(self) -> list[Flow]:
        """The views that are to be fed: the newest version of each that has a topic which its group may read."""
        with self._control.db.read() as session:
            rows = session.scalars(select(ViewRow).order_by(ViewRow.group_name, ViewRow.name, ViewRow.version))
            newest = {(row.group_name, row.name): row for row in rows}
            flows = [
                Flow(group=row.group_name, view=lookup.view_model(row))
                for row in newest.values()
                if row.definition.get("stream") is not None
            ]
        return [flow for flow in flows if is_allowed(self._control.settings, flow.group, flow.topic)]

    def heard(self, report: Report) -> list[Flow]:
        """Remember how the streams do; answers which there are to be."""
        flows = self.flows()
        names = {flow.name: flow for flow in flows}
        with self._control.db.write() as session:
            for state in report.states:
                if state.name in names:
                    row = _stream(session, names[state.name].group, names[state.name].view.name)
                    row.lag, row.problem, row.heard_at = state.lag, state.problem, self._control.clock()
        return flows

    def places(self, group: str, view: str, version: int) -> dict[int, int]:
        """Up to where a version of a view has each partition."""
        with self._control.db.read() as session:
            query = select(PlaceRow).where(
                PlaceRow.group_name == group, PlaceRow.view == view, PlaceRow.view_version == version
            )
            return {row.partition: row.next_offset for row in session.scalars(query)}

    def feed(self, caller: Caller, group: str, name: str, batch: Batch, draft: Path | None) -> Fed:
        """Keep the rows of a batch, in Parquet, and how far it reaches, together or not at all; bring them online.

        Raises Unavailable while rows of the view wait for the online store, Conflict where the batch is not what
        comes next. Then nothing is kept.
        """
        try:
            self._pushing.catch_up(group, name)
            if any(stretch.since is None for stretch in batch.stretches):
                self._pushing.make_ready(group, name)
            if draft is not None:
                done = self._pushing.push(
                    caller, group, name, draft, None, also=lambda session, row: self._advance(session, row, batch)
                )
                return Fed(rows=done.rows, quarantined=done.quarantined, online=done.online)
        finally:
            if draft is not None:
                draft.unlink(missing_ok=True)
        if not batch.poison and all(stretch.since == stretch.next for stretch in batch.stretches):
            return Fed()
        with self._control.db.write() as session:
            row = lookup.newest_view(session, group, name)
            told = self._advance(session, row, batch)
            self._control.audit.append(
                session,
                actor=caller.name,
                action="feature_stream.read",
                object=f"feature_view/{group}/{name}@{row.version}",
                group=group,
                after=told,
                request_id=caller.request_id,
            )
        return Fed()

    def poison(self, group: str, name: str, limit: int) -> list[PoisonedMessage]:
        """Messages of the view's topics that were no rows, the newest first. Raises NotFound for no such view."""
        with self._control.db.read() as session:
            lookup.newest_view(session, group, name)
            query = select(PoisonRow).where(PoisonRow.group_name == group, PoisonRow.view == name)
            rows = session.scalars(query.order_by(PoisonRow.at.desc(), PoisonRow.offset.desc()).limit(limit))
            return [
                PoisonedMessage.model_validate({n: getattr(row, n) for n in PoisonedMessage.model_fields})
                for row in rows
            ]

    def _advance(self, session: Session, view: ViewRow, batch: Batch) -> dict[str, Any]:
        """Move on by a batch, if it begins where the record ends."""
        group, name = view.group_name, view.name
        stream = view.definition.get("stream") or {}
        if view.version != batch.version or stream.get("name") != batch.topic:
            raise Conflict(f"'{name}' was changed meanwhile.", "Ask for the streams again.")
        if not is_allowed(self._control.settings, group, batch.topic):
            raise NotFound(f"The group '{group}' may not read '{batch.topic}'.", "Ask for the streams again.")
        for stretch in batch.stretches:
            place = session.get(PlaceRow, (group, name, view.version, stretch.partition), with_for_update=True)
            if stretch.since != (place.next_offset if place else None):
                at = f"{batch.topic}/{stretch.partition}"
                raise Conflict(f"{at} is not read up to {stretch.since}.", "Ask for the places again.")
            if place is None:
                place = PlaceRow(
                    group_name=group, view=name, view_version=view.version, partition=stretch.partition, next_offset=0
                )
                session.add(place)
            place.next_offset = stretch.next
        row = _stream(session, group, name)
        if batch.reached is not None and (row.reached is None or batch.reached > row.reached):
            row.reached = batch.reached
        self._keep_apart(session, view, row, batch)
        told = {str(s.partition): [s.since, s.next] for s in batch.stretches}
        return {"topic": batch.topic, "offsets": told, "poison": len(batch.poison)}

    def _keep_apart(self, session: Session, view: ViewRow, row: StreamRow, batch: Batch) -> None:
        group, name, now = view.group_name, view.name, self._control.clock()
        for poison in batch.poison:
            named: Mapping[str, Any] = {
                "group_name": group,
                "view": name,
                "topic": batch.topic,
                "partition": poison.partition,
                "offset": poison.offset,
            }
            row.poisoned += session.get(PoisonRow, tuple(named.values())) is None
            session.merge(
                PoisonRow(
                    **named, view_version=view.version, size_bytes=poison.size_bytes, reason=poison.reason, at=now
                )
            )
        if batch.poison:
            session.flush()
            self._forget(session, group, name)

    def _forget(self, session: Session, group: str, name: str) -> None:
        of_view = (PoisonRow.group_name == group, PoisonRow.view == name)
        order = PoisonRow.at.desc()
        oldest: Sequence[Any] = session.scalars(
            select(PoisonRow.at).where(*of_view).order_by(order).offset(KEPT_POISON).limit(1)
        ).all()
        for moment in oldest:
            session.execute(delete(PoisonRow).where(*of_view, PoisonRow.at < moment))


def _stream(session: Session, group: str, view: str) -> StreamRow:
    row = session.get(StreamRow, (group, view))
    if row is None:
        row = StreamRow(group_name=group, view=view, problem="", poisoned=0)
        session.add(row)
    return row
