"""Outbox: events on their way, stored with what happened and kept until they are delivered or given up.

At least once: one that was sent when the power went is sent again, under the same id.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from themisto.types import Model, new_ulid
from themisto_hub.control.audit import AuditRow
from themisto_hub.control.db import Database
from themisto_hub.control.outbox.event import Event, event_of
from themisto_hub.control.outbox.tables import DeliveryRow
from themisto_hub.control.outbox.target import Target

__all__ = ["MAX_ATTEMPTS", "Backlog", "Outbox", "Taken", "backlog"]

MAX_ATTEMPTS = 15
"""With pauses from 5 s to an hour: some seven hours."""
_FIRST_PAUSE_S, _MAX_PAUSE_S = 5.0, 3600.0
_HELD = timedelta(minutes=2)  # longer than one try takes
_MOST_WAITING = 10_000
_KEEP_SENT, _KEEP_FAILED = timedelta(days=7), timedelta(days=30)
_RECENT = timedelta(days=1)


class Taken(Model):
    """One event that is being sent to one target, and for the how-manieth time."""

    delivery: str
    event: Event
    attempt: int


class Backlog(Model):
    """How the outbox does: what waits, and what was given up in the last day."""

    waiting: int
    failed: int
    problem: str = ""
    """Of the newest that failed, or that waits after a failed try."""


class Outbox:
    """Fills itself from the audit chain; a worker empties it."""

    def __init__(self, db: Database, targets: Sequence[Target], clock: Callable[[], datetime], review_url: str) -> None:
        self.targets = targets
        self._db = db
        self._clock = clock
        self._review_url = review_url

    def hear(self, session: Session, row: AuditRow) -> None:
        """Store what others are to be told of a link of the chain, in its own transaction."""
        event = event_of(row, self._review_url) if self.targets else None
        if event is None:
            return
        for target in self.targets:
            if target.wants(event):
                self._add(session, target, event)

    def _add(self, session: Session, target: Target, event: Event) -> None:
        waits = DeliveryRow.target == target.key, DeliveryRow.state == "waiting"
        full = (session.scalar(select(func.count()).where(*waits)) or 0) >= _MOST_WAITING
        now = self._clock()
        session.add(
            DeliveryRow(
                id=new_ulid(),
                event=event.id,
                target=target.key,
                kind=event.kind,
                content=event.model_dump(mode="json"),
                state="failed" if full else "waiting",
                attempts=0,
                not_before=now,
                problem=f"{_MOST_WAITING:,} events wait for it already" if full else "",
                created_at=now,
                ended_at=now if full else None,
            )
        )

    def take(self, target: Target) -> Taken | None:
        """The oldest event that is due for the target; held for two minutes, so that no other worker sends it too."""
        now = self._clock()
        due = DeliveryRow.target == target.key, DeliveryRow.state == "waiting", DeliveryRow.not_before <= now
        with self._db.read() as session:
            found = session.scalars(select(DeliveryRow.id).where(*due).order_by(DeliveryRow.id).limit(1)).first()
        if found is None:
            return None
        mine = update(DeliveryRow).where(DeliveryRow.id == found, *due)
        with self._db.write() as session:
            took = session.execute(mine.values(attempts=DeliveryRow.attempts + 1, not_before=now + _HELD))
            if took.rowcount != 1:  # type: ignore[attr-defined]  # of an UPDATE
                return None
            row = session.get_one(DeliveryRow, found)
            return Taken(delivery=row.id, event=Event.model_validate(row.content), attempt=row.attempts)

    def sent(self, taken: Taken) -> None:
        self._end(taken, "sent", "")

    def not_sent(self, taken: Taken, problem: str, *, final: bool = False) -> bool:
        """Try again later, or give up; True where it was given up. `problem` must hold no address."""
        if final or taken.attempt >= MAX_ATTEMPTS:
            self._end(taken, "failed", problem)
            return True
        pause = min(_FIRST_PAUSE_S * 2 ** (taken.attempt - 1), _MAX_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        with self._db.write() as session:
            row = session.get_one(DeliveryRow, taken.delivery)
            row.not_before, row.problem = self._clock() + timedelta(seconds=pause), problem[:200]
        return False

    def _end(self, taken: Taken, state: str, problem: str) -> None:
        with self._db.write() as session:
            row = session.get_one(DeliveryRow, taken.delivery)
            row.state, row.problem, row.ended_at = state, problem[:200], self._clock()

    def sweep(self) -> None:
        """Give up what no target is there for any more; forget what ended long ago."""
        now = self._clock()
        gone = DeliveryRow.state == "waiting", DeliveryRow.target.not_in([t.key for t in self.targets])
        lost = {"state": "failed", "problem": "its address is not configured any more", "ended_at": now}
        with self._db.write() as session:
            session.execute(update(DeliveryRow).where(*gone).values(**lost))
            for state, keep in (("sent", _KEEP_SENT), ("failed", _KEEP_FAILED)):
                over = DeliveryRow.state == state, DeliveryRow.ended_at < now - keep
                session.execute(delete(DeliveryRow).where(*over))


def backlog(session: Session, now: datetime) -> Backlog:
    """What a doctor wants to know."""
    failed = DeliveryRow.state == "failed", DeliveryRow.ended_at >= now - _RECENT
    troubled = select(DeliveryRow.problem).where(DeliveryRow.problem != "").order_by(DeliveryRow.id.desc())
    waiting = DeliveryRow.state == "waiting"
    return Backlog(
        waiting=session.scalar(select(func.count()).where(waiting)) or 0,
        failed=session.scalar(select(func.count()).where(*failed)) or 0,
        problem=session.scalars(troubled.where(waiting | (failed[0] & failed[1])).limit(1)).first() or "",
    )
