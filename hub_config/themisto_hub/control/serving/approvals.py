"""Approvals: a decision by another person, carried by a one-use ticket and bound to what she saw."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Literal, NoReturn

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from themisto.errors import Conflict, Invalid, Refused
from themisto.serving.models import Endpoint, Release
from themisto.serving.rollout import Approval, Rollout
from themisto.types import Model, new_ulid
from themisto_hub.control.context import Control
from themisto_hub.control.gates.difference import gate_changes
from themisto_hub.control.serving.changes import Changes
from themisto_hub.control.serving.diff import Change
from themisto_hub.control.serving.moves import end_rollout
from themisto_hub.control.serving.records import (
    endpoint_model,
    endpoint_row,
    locked_rollout,
    release_hash,
    release_model,
    release_row,
    rollout_model,
    rollout_row,
)
from themisto_hub.control.serving.tables import ApprovalRow, ReleaseRow, RolloutRow, TicketRow

__all__ = ["FRESH", "Approvals", "Decision", "Login", "Review"]

FRESH = timedelta(minutes=5)
"""How old a login may be when it decides."""

Decision = Literal["approve", "refuse"]


class Login(Model):
    """Who logged in at the identity provider just now, with groups as they are now."""

    name: str
    groups: frozenset[str]
    at: datetime


class Review(Model):
    """All that a person sees before she decides."""

    endpoint: Endpoint
    rollout: Rollout
    release: Release
    stable: Release | None
    gates: tuple[Change, ...] = ()


class Approvals:
    """Who may decide, on what, once. Every refusal is one audit event."""

    def __init__(self, control: Control, changes: Changes) -> None:
        self._control = control
        self._changes = changes

    def waiting(self, login: Login) -> list[Review]:
        """Rollouts that wait for a decision, oldest first. Raises Refused unless the person is an approver."""
        self._require_approver(login, "rollouts")  # looking needs no fresh login; deciding does
        with self._control.db.read() as session:
            query = select(RolloutRow).where(RolloutRow.state == "waiting_approval").order_by(RolloutRow.created_at)
            return [self._review(session, row) for row in session.scalars(query)]

    def open(self, login: Login, rollout_id: str) -> tuple[Review, str]:
        """What is to be decided, with a fresh ticket for this person.

        Raises NotFound, Conflict when nothing waits, Refused for whom may not decide.
        """
        with self._control.db.read() as session:
            row = rollout_row(session, rollout_id)
            review = self._review(session, row)
        self._require_decider(login, review)
        _require_waiting(review.rollout)
        ticket = secrets.token_urlsafe(32)
        now = self._control.clock()
        with self._control.db.write() as session:
            session.execute(delete(TicketRow).where(TicketRow.until < now - timedelta(days=1)))
            session.add(
                TicketRow(
                    sha256=_digest(ticket),
                    rollout=rollout_id,
                    person=login.name,
                    release_hash=review.release.hash,
                    stable=review.endpoint.stable,
                    logged_in_at=login.at,
                    until=login.at + FRESH,
                )
            )
            self._audit(session, login.name, "rollout.review", review)
        return review, ticket

    def decide(self, ticket: str, decision: Decision, reason: str = "") -> Rollout:
        """Use the ticket up and record the decision it carries; approved, the rollout goes on.

        Raises Refused for a ticket that is unknown, used or too old, Conflict when the release, or
        what is stable, is not what the person saw; Invalid for a refusal without a reason.
        """
        if decision == "refuse" and not reason.strip():
            raise Invalid("A refusal needs a reason: the author must know what to mend.", "Write it and decide again.")
        claim = self._use_up(ticket)
        with self._control.db.write() as session:
            _, row = locked_rollout(session, claim.rollout)
            release = release_row(session, row.endpoint, row.release)
            problem = self._changed(session, claim, row, release)
            if problem is None:
                self._record(session, claim, row=row, release=release, decision=decision, reason=reason.strip())
            else:
                review = self._review(session, row)
                self._audit(
                    session, claim.person, f"rollout.{decision}", review, outcome="refused", details={"reason": problem}
                )
        if problem is not None:
            raise Conflict(problem, "Open the review page again and look at it as it is now.")
        with self._control.db.read() as session:
            self._control.audit.sign_head(session)
            done = rollout_row(session, claim.rollout)
            model = rollout_model(session, self._control.settings, done)
        self._changes.tell(model.endpoint)
        return model

    def _use_up(self, ticket: str) -> TicketRow:
        """The ticket's claim, once: a second use finds it used, in whatever order they come."""
        now = self._control.clock()
        problem = ""
        with self._control.db.write() as session:
            claim = session.get(TicketRow, _digest(ticket), with_for_update=True)
            if claim is None:
                problem, who, what = "The ticket is not known.", "unknown", "rollout/unknown"
            else:
                who, what = claim.person, f"rollout/{claim.rollout}"
                if claim.used_at is not None:
                    problem = "The ticket was used before: a decision is made once."
                elif claim.until < now:
                    problem = "The login is more than five minutes old."
                else:
                    claim.used_at = now
            if problem:
                self._control.audit.append(
                    session,
                    actor=who,
                    action="rollout.decide",
                    object=what,
                    outcome="refused",
                    after={"reason": problem},
                )
        if problem or claim is None:
            raise Refused(problem, "Open the review page again and log in.")
        return claim

    def _changed(self, session: Session, claim: TicketRow, row: RolloutRow, release: ReleaseRow) -> str | None:
        """What is not as the person saw it."""
        if row.state != "waiting_approval":
            return f"{row.endpoint}@{row.release} does not wait for a decision any more."
        now_hash = release_hash(release)
        if not (hmac.compare_digest(claim.release_hash, now_hash) and release.hash == now_hash):
            return f"The release {row.endpoint}@{row.release} is not the one that was shown."
        if endpoint_row(session, row.endpoint).stable != claim.stable:
            return "Another release became stable meanwhile: the difference that was shown no longer holds."
        return None

    def _record(
        self,
        session: Session,
        claim: TicketRow,
        *,
        row: RolloutRow,
        release: ReleaseRow,
        decision: Decision,
        reason: str,
    ) -> None:
        now = self._control.clock()
        session.add(
            ApprovalRow(
                id=new_ulid(),
                rollout=row.id,
                by=claim.person,
                decision=decision,
                reason=reason,
                release_hash=release.hash,
                logged_in_at=claim.logged_in_at,
                at=now,
            )
        )
        if decision == "approve":
            row.approved, row.state, row.stage, row.tries = True, "loading", "load", 0
            row.message, row.updated_at = f"approved by {claim.person}", now
        else:
            end_rollout(
                self._control,
                endpoint_row(session, row.endpoint),
                row,
                "refused",
                f"refused by {claim.person}: {reason}",
            )
        session.flush()
        details = {"hash": release.hash, "logged_in_at": claim.logged_in_at.isoformat(), "reason": reason}
        self._audit(session, claim.person, f"rollout.{decision}", self._review(session, row), details=details)

    def _require_decider(self, login: Login, review: Review) -> None:
        what = f"rollout/{review.rollout.id}"
        self._require_approver(login, what)
        if self._control.clock() - login.at > FRESH:
            self.refuse(login.name, what, "The login is more than five minutes old.")
        person = login.name.casefold()
        if person == review.release.author.casefold():
            self.refuse(login.name, what, f"{login.name} made {review.release} and cannot approve it.")
        if person == review.rollout.requested_by.casefold():
            self.refuse(login.name, what, f"{login.name} asked for this rollout and cannot approve it.")

    def _require_approver(self, login: Login, what: str) -> None:
        if not login.groups & self._control.settings.approver_groups:
            self.refuse(login.name, what, f"{login.name} is in no group that approves.")

    def refuse(self, who: str, what: str, why: str) -> NoReturn:
        """Record that `who` may not decide on `what`, and raise Refused."""
        with self._control.db.write() as session:
            self._control.audit.append(
                session,
                actor=who,
                action="rollout.review",
                object=what,
                outcome="refused",
                after={"reason": why},
            )
        raise Refused(why, "Another person, of a group that approves, must decide.")

    def _review(self, session: Session, row: RolloutRow) -> Review:
        endpoint = endpoint_row(session, row.endpoint)
        settings = self._control.settings
        release = release_model(release_row(session, row.endpoint, row.release))
        stable = release_model(release_row(session, row.endpoint, endpoint.stable)) if endpoint.stable else None
        return Review(
            endpoint=endpoint_model(session, settings, endpoint),
            rollout=rollout_model(session, settings, row),
            release=release,
            stable=stable,
            gates=gate_changes(session, release, stable),
        )

    def _audit(
        self,
        session: Session,
        actor: str,
        action: str,
        review: Review,
        *,
        outcome: str = "done",
        details: dict[str, str] | None = None,
    ) -> None:
        self._control.audit.append(
            session,
            actor=actor,
            action=action,
            object=f"rollout/{review.rollout.id}",
            outcome=outcome,
            group=review.endpoint.group,
            after={"release": str(review.release), **(details or {})},
        )


def _require_waiting(rollout: Rollout) -> None:
    if rollout.state == "waiting_approval":
        return
    what = f"{rollout.endpoint}@{rollout.release}"
    decided: Approval | None = rollout.approvals[-1] if rollout.approvals else None
    if decided is not None:
        word = "approved" if decided.decision == "approve" else "refused"
        raise Conflict(f"{what} was {word} by {decided.by}.", "There is nothing to decide.")
    if rollout.state == "loading":
        raise Conflict(f"{what} is still being proved.", "Open this page in a moment.")
    raise Conflict(f"The rollout of {what} has ended.", "There is nothing to decide.")


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()
