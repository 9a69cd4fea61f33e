"""Progress: the steps of a rollout that the reconciler takes, each one transaction that can be repeated."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from themisto.serving.gates import GateResult
from themisto.serving.models import Release, Tier
from themisto.types import Model
from themisto_hub.control.context import Control
from themisto_hub.control.gates.keeper import is_gated
from themisto_hub.control.gates.records import add_results
from themisto_hub.control.serving.changes import Changes
from themisto_hub.control.serving.fallbacks import rule_of
from themisto_hub.control.serving.moves import audit_rollout, end_rollout, make_stable
from themisto_hub.control.serving.records import (
    endpoint_row,
    locked_rollout,
    release_model,
    release_row,
)
from themisto_hub.control.serving.tables import EndpointRow, RolloutRow

__all__ = ["Live", "Progress", "Work"]


class Work(Model):
    """One rollout that the reconciler must move on."""

    rollout: str
    release: Release
    needs_proof: bool
    tries: int
    gated: bool = False
    """Gates of its own or its endpoint's are to be judged, which is part of the proof."""


class Live(Model):
    """One release that a Triton must hold: stable, candidate, the way back, or one on its way in."""

    release: Release
    carries_traffic: bool
    arriving: bool
    """Its rollout is loading it: leave it to that, but do not unload it."""

    @property
    def tier(self) -> Tier:
        return self.release.tier


class Progress:
    """Reads what is to be done and records how far it came.

    Every method looks at the row again inside its transaction: a rollout that a person ended
    meanwhile is left alone.
    """

    def __init__(self, control: Control, changes: Changes) -> None:
        self._control = control
        self._changes = changes

    def unfinished(self) -> list[Work]:
        """Rollouts in `loading`, oldest first."""
        with self._control.db.read() as session:
            rows = session.scalars(
                select(RolloutRow).where(RolloutRow.state == "loading").order_by(RolloutRow.created_at)
            )
            return [_work(session, row) for row in rows]

    def live(self) -> list[Live]:
        """What every Triton must hold now, releases on their way into one included."""
        with self._control.db.read() as session:
            found: list[Live] = []
            for endpoint in session.scalars(select(EndpointRow).where(EndpointRow.retired.is_(False))):
                carrying = {endpoint.stable, endpoint.candidate}
                kept, arriving = carrying | {endpoint.previous}, _loading(session, endpoint)
                found.extend(
                    Live(release=one, carries_traffic=number in carrying, arriving=number not in kept)
                    for number in sorted(n for n in kept | arriving if n is not None)
                    for one in _with_rule(release_model(release_row(session, endpoint.name, number)))
                )
            return found

    def note(self, rollout_id: str, stage: str, message: str) -> None:
        """Say what goes on; no audit event."""
        with self._control.db.write() as session:
            _, row = locked_rollout(session, rollout_id)
            if row.state != "loading":
                return
            row.stage, row.message, row.updated_at = stage, message, self._control.clock()
        self._changes.tell(row.endpoint)

    def again(self, rollout_id: str, message: str) -> None:
        """A service did not answer; it will be tried again."""
        with self._control.db.write() as session:
            _, row = locked_rollout(session, rollout_id)
            if row.state != "loading":
                return
            row.tries += 1
            row.message, row.updated_at = message, self._control.clock()
        self._changes.tell(row.endpoint)

    def proved(self, rollout_id: str, message: str, gates: Sequence[GateResult] = ()) -> None:
        """The stored artifact answered as it must in a clean process: in prod a person decides now.

        gates: how they were decided, kept in the same transaction; one that is not passed ends the rollout.
        """
        with self._control.db.write() as session:
            endpoint, row = locked_rollout(session, rollout_id)
            if row.state != "loading" or row.proved:
                return
            if gates:
                add_results(session, row.endpoint, row.id, gates)
                audit_rollout(self._control, session, row, "gate.judge", _said(gates))
            not_passed = [one for one in gates if one.passed is False]
            if not_passed:
                end_rollout(self._control, endpoint, row, "failed", _refusal(not_passed))
                row.stage = "gate"
                audit_rollout(self._control, session, row, "rollout.failed")
            else:
                _go_on(endpoint, row)
                row.message = " ".join(part for part in (message, _said(gates)) if part)
                row.updated_at = self._control.clock()
                audit_rollout(self._control, session, row, "rollout.proved")
        self._changes.tell(row.endpoint)

    def loaded(self, rollout_id: str, message: str) -> None:
        """Triton has it, and it answered: traffic moves."""
        with self._control.db.write() as session:
            endpoint, row = locked_rollout(session, rollout_id)
            if row.state != "loading" or (endpoint.tier == "prod" and not row.approved):
                return
            if _work(session, row).needs_proof:
                return
            if endpoint.stable is None:
                make_stable(self._control, endpoint, row, f"first release; {message}")
            elif row.strategy == "replace" or (row.steps == [100] and not row.manual):
                make_stable(self._control, endpoint, row, f"replaced {row.endpoint}@{endpoint.stable}; {message}")
            else:
                _run_beside(self._control, endpoint, row, message)
            audit_rollout(self._control, session, row, f"rollout.{row.state}", message)
        self._changes.tell(row.endpoint)

    def failed(self, rollout_id: str, stage: str, message: str) -> None:
        """It did not work; stable was never touched."""
        with self._control.db.write() as session:
            endpoint, row = locked_rollout(session, rollout_id)
            if row.state != "loading":
                return
            end_rollout(self._control, endpoint, row, "failed", message)
            row.stage = stage
            audit_rollout(self._control, session, row, "rollout.failed", message)
        self._changes.tell(row.endpoint)


def _with_rule(release: Release) -> list[Release]:
    rule = rule_of(release)
    return [release] if rule is None else [release, rule]


def _work(session: Session, row: RolloutRow) -> Work:
    release = release_model(release_row(session, row.endpoint, row.release))
    gated = is_gated(session, release)
    needs_proof = not row.proved and (gated or endpoint_row(session, row.endpoint).tier == "prod")
    return Work(rollout=row.id, release=release, needs_proof=needs_proof, tries=row.tries, gated=gated)


def _go_on(endpoint: EndpointRow, row: RolloutRow) -> None:
    """What is proved waits for a person in prod; in dev it is loaded."""
    row.proved, row.tries = True, 0
    waits = endpoint.tier == "prod" and not row.approved
    row.state, row.stage = ("waiting_approval", "approval") if waits else ("loading", "load")


def _said(gates: Sequence[GateResult]) -> str:
    if not gates:
        return ""
    passed = sum(one.passed is True for one in gates)
    return f"{passed} of {len(gates)} gates passed on the hold-out: {'; '.join(one.says for one in gates)}."


def _refusal(gates: Sequence[GateResult]) -> str:
    return "gate not passed: " + "; ".join(f"{one.says}{' (pinned)' if one.pinned else ''}" for one in gates)


def _loading(session: Session, endpoint: EndpointRow) -> set[int | None]:
    """Releases on their way into Triton: for prod, only what a person has approved."""
    query = select(RolloutRow.release).where(RolloutRow.endpoint == endpoint.name, RolloutRow.state == "loading")
    if endpoint.tier == "prod":
        query = query.where(RolloutRow.approved.is_(True))
    return set(session.scalars(query))


def _run_beside(control: Control, endpoint: EndpointRow, row: RolloutRow, message: str) -> None:
    endpoint.candidate, endpoint.strategy = row.release, row.strategy
    endpoint.weight_pct = row.weight_pct
    endpoint.updated_at = row.updated_at = control.clock()
    row.state, row.stage, row.message, row.tries = "running", "traffic", message, 0
    row.step, row.step_since, row.verdict = 0, row.updated_at, None
