"""Steps: what the analysis does to a running rollout, each one transaction with its audit event.

Every method looks at the row again under its lock: the step that a verdict was about must still be the
rollout's, so that two control planes never step twice and a person's decision is never undone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from themisto.serving.models import Release
from themisto.serving.verdict import StepVerdict, Tolerated
from themisto.types import Model
from themisto_hub.control.context import Control
from themisto_hub.control.serving.changes import Changes
from themisto_hub.control.serving.moves import audit_rollout, end_rollout, is_last_step, next_share
from themisto_hub.control.serving.records import (
    endpoint_row,
    locked_rollout,
    release_model,
    release_row,
)
from themisto_hub.control.serving.tables import EndpointRow, RolloutRow

__all__ = ["PATIENCE", "Running", "Steps"]

PATIENCE = timedelta(hours=24)
"""After so long without a decision a step asks a person; it goes on looking."""
_SHOWN_EVERY = timedelta(seconds=5)


class Running(Model):
    """A rollout at one of its steps, as the analysis needs it."""

    rollout: str
    step: int
    steps: tuple[int, ...]
    since: datetime
    strategy: str
    manual: bool
    dwell: timedelta
    tolerated: Tolerated
    candidate: Release
    stable: Release

    @property
    def moves(self) -> bool:
        """Whether its steps are taken without a person."""
        return self.strategy == "canary" and not self.manual and self.step < len(self.steps)

    @property
    def judged_steps(self) -> int:
        """Steps at which it can go back; one where the rollout moves as a whole."""
        return max(sum(share < 100 for share in self.steps), 1)


class Steps:
    """Reads what runs and takes its steps, forward or back."""

    def __init__(self, control: Control, changes: Changes) -> None:
        self._control = control
        self._changes = changes

    def running(self) -> list[Running]:
        """Rollouts whose candidate answers beside a stable release."""
        with self._control.db.read() as session:
            found = []
            for row in session.scalars(select(RolloutRow).where(RolloutRow.state == "running")):
                endpoint = endpoint_row(session, row.endpoint)
                if endpoint.stable is None or row.step_since is None:
                    continue
                found.append(
                    Running(
                        rollout=row.id,
                        step=row.step,
                        steps=tuple(row.steps),
                        since=row.step_since,
                        strategy=row.strategy,
                        manual=row.manual,
                        dwell=timedelta(seconds=row.dwell_s),
                        tolerated=Tolerated(**row.tolerated),
                        candidate=release_model(release_row(session, row.endpoint, row.release)),
                        stable=release_model(release_row(session, row.endpoint, endpoint.stable)),
                    )
                )
            return found

    def show(self, running: Running, verdict: StepVerdict) -> None:
        """Keep the verdict where people see it; no audit event, nothing moves."""
        with self._at(running) as found:
            if found is None:
                return
            _, _, row = found
            shown = StepVerdict.model_validate(row.verdict) if row.verdict else None
            if shown and shown.finding == verdict.finding and verdict.at - shown.at < _SHOWN_EVERY:
                return
            if shown and shown.words == verdict.words:
                return
            row.verdict = verdict.model_dump(mode="json")
        self._changes.tell(running.candidate.endpoint)

    def forward(self, running: Running, verdict: StepVerdict) -> None:
        """The next share of the traffic; after the last one the candidate is stable."""
        with self._at(running) as found:
            if found is None:
                return
            session, endpoint, row = found
            if row.manual or row.strategy != "canary" or (endpoint.tier == "prod" and not row.approved):
                return
            row.verdict = verdict.model_dump(mode="json")
            last = is_last_step(row)
            passed = "every step" if last else f"{row.weight_pct} %"
            next_share(self._control, endpoint, row, f"passed {passed}; {verdict.words}")
            self._audit(session, row, "rollout.done" if last else "rollout.step")
        self._changes.tell(running.candidate.endpoint)

    def back(self, running: Running, verdict: StepVerdict) -> None:
        """All traffic to stable again, with the reason in words."""
        with self._at(running) as found:
            if found is None:
                return
            session, endpoint, row = found
            row.verdict = verdict.model_dump(mode="json")
            end_rollout(self._control, endpoint, row, "rolled_back", f"went back by itself: {verdict.words}")
            self._audit(session, row, "rollout.breach")
        self._changes.tell(running.candidate.endpoint)

    def ask(self, running: Running, verdict: StepVerdict) -> None:
        """Too few answers for too long: say so, once a step; the rollout stays where it is."""
        with self._at(running) as found:
            if found is None:
                return
            session, _, row = found
            if row.manual or row.stage == "decide":
                return
            row.verdict = verdict.model_dump(mode="json")
            row.stage, row.updated_at = "decide", self._control.clock()
            hours = (row.updated_at - running.since) / timedelta(hours=1)
            row.message = (
                f"holds at {row.weight_pct} %: {hours:,.0f} h brought too few answers to decide ({verdict.words}). "
                f"It goes on by itself once there are enough. By hand: "
                f"%deploy step {row.endpoint}, promote, or rollback"
            )
            self._audit(session, row, "rollout.hold")
        self._changes.tell(running.candidate.endpoint)

    @contextmanager
    def _at(self, running: Running) -> Iterator[tuple[Session, EndpointRow, RolloutRow] | None]:
        """The locked rows, if the rollout is still where it was when it was looked at; None otherwise."""
        with self._control.db.write() as session:
            endpoint, row = locked_rollout(session, running.rollout)
            same = (row.state, row.step, row.step_since) == ("running", running.step, running.since)
            same = same and (endpoint.stable, endpoint.candidate) == (running.stable.number, row.release)
            yield (session, endpoint, row) if same else None

    def _audit(self, session: Session, row: RolloutRow, action: str) -> None:
        audit_rollout(self._control, session, row, action, step=row.step, verdict=row.verdict)
