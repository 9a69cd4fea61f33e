"""Moves: what each move of a rollout does to its row and its endpoint's, inside the caller's transaction."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from themisto.errors import Conflict
from themisto.serving.rollout import RolloutRequest
from themisto.types import new_ulid
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.serving.records import endpoint_row
from themisto_hub.control.serving.tables import EndpointRow, ReleaseRow, RolloutRow
from themisto_hub.control.tracing import remember

__all__ = [
    "RECONCILER",
    "audit_rollout",
    "end_rollout",
    "is_last_step",
    "make_stable",
    "next_share",
    "open_rollout",
    "return_to_previous",
]

RECONCILER = "themisto"
"""The actor of steps that nobody asked for by hand."""


def open_rollout(
    control: Control,
    session: Session,
    caller: Caller,
    *,
    endpoint: EndpointRow,
    release: ReleaseRow,
    request: RolloutRequest,
) -> RolloutRow:
    """A new rollout of `release`, inside the caller's transaction; the reconciler takes it from here."""
    now = control.clock()
    row = RolloutRow(
        id=new_ulid(),
        endpoint=endpoint.name,
        release=release.number,
        strategy=request.strategy,
        weight_pct=0 if request.strategy == "shadow" else request.weight_pct,
        state="loading",
        stage="prove" if endpoint.tier == "prod" else "load",
        message="",
        requested_by=caller.name,
        proved=False,
        approved=False,
        steps=list(request.steps),
        step=0,
        manual=request.manual,
        dwell_s=request.dwell_s,
        tolerated=request.tolerated.model_dump(),
        tries=0,
        created_at=now,
        updated_at=now,
    )
    session.add(row)
    remember(row.id)
    endpoint.retired, endpoint.retired_at = False, None
    endpoint.updated_at = now
    session.flush()
    control.audit.append(
        session,
        actor=caller.name,
        action="rollout.open",
        object=f"rollout/{row.id}",
        group=endpoint.group_name,
        after={
            "release": f"{endpoint.name}@{release.number}",
            "hash": release.hash,
            "strategy": row.strategy,
            "weight_pct": row.weight_pct,
            "steps": row.steps,
            "manual": row.manual,
        },
        request_id=caller.request_id,
    )
    return row


def is_last_step(row: RolloutRow) -> bool:
    """Whether the next step is all traffic."""
    return row.step + 1 >= len(row.steps) or row.steps[row.step + 1] >= 100


def next_share(control: Control, endpoint: EndpointRow, row: RolloutRow, message: str) -> None:
    """The next step's share of the traffic; all of it makes the release stable."""
    if is_last_step(row):
        row.step = max(len(row.steps) - 1, 0)
        make_stable(control, endpoint, row, message)
        return
    row.step += 1
    row.weight_pct = endpoint.weight_pct = row.steps[row.step]
    row.step_since = row.updated_at = endpoint.updated_at = control.clock()
    row.stage, row.message, row.verdict = "traffic", message, None


def make_stable(control: Control, endpoint: EndpointRow, row: RolloutRow, message: str) -> None:
    """All traffic goes to the rollout's release; what was stable becomes the way back."""
    now = control.clock()
    if endpoint.stable != row.release:
        endpoint.previous, endpoint.stable = endpoint.stable, row.release
    endpoint.candidate, endpoint.weight_pct, endpoint.strategy = None, 0, None
    endpoint.updated_at = row.updated_at = row.done_at = now
    row.state, row.stage, row.weight_pct, row.message = "done", "traffic", 100, message


def end_rollout(control: Control, endpoint: EndpointRow, row: RolloutRow, state: str, message: str) -> None:
    """Close a rollout that did not become stable: stable carries all traffic again."""
    row.state, row.message, row.updated_at = state, message, control.clock()
    endpoint.candidate, endpoint.weight_pct, endpoint.strategy = None, 0, None
    endpoint.updated_at = row.updated_at


def return_to_previous(control: Control, session: Session, endpoint: EndpointRow, why: str) -> RolloutRow | None:
    """The whole release before stable answers again; the rollout that had made stable so, now ended.

    Raises Conflict where there is none before.
    """
    if endpoint.previous is None:
        raise Conflict(
            f"'{endpoint.name}' has no earlier release to go back to.",
            "Deploy a mended release, or %deploy retire it.",
        )
    left = _stable_rollout(session, endpoint.name, endpoint.stable)
    if left is not None:
        end_rollout(control, endpoint, left, "rolled_back", why)
    endpoint.stable = endpoint.previous
    endpoint.updated_at = control.clock()
    returned = _stable_rollout(session, endpoint.name, endpoint.stable)
    endpoint.previous = _stable_before(session, endpoint, returned) if returned else None
    return left


def audit_rollout(
    control: Control, session: Session, row: RolloutRow, action: str, message: str | None = None, **more: object
) -> None:
    """Record what the reconciler did to a rollout, in its own transaction; `message`: the rollout's, unless told."""
    endpoint = endpoint_row(session, row.endpoint)
    control.audit.append(
        session,
        actor=RECONCILER,
        action=action,
        object=f"rollout/{row.id}",
        group=endpoint.group_name,
        after={
            "release": f"{row.endpoint}@{row.release}",
            "state": row.state,
            "stable": endpoint.stable,
            "candidate": endpoint.candidate,
            "weight_pct": endpoint.weight_pct,
            "message": row.message if message is None else message,
            **more,
        },
    )


def _stable_rollout(session: Session, endpoint: str, release: int | None) -> RolloutRow | None:
    query = select(RolloutRow).where(
        RolloutRow.endpoint == endpoint, RolloutRow.release == release, RolloutRow.state == "done"
    )
    return session.scalars(query.order_by(RolloutRow.done_at.desc()).limit(1)).one_or_none()


def _stable_before(session: Session, endpoint: EndpointRow, rollout: RolloutRow) -> int | None:
    query = select(RolloutRow.release).where(
        RolloutRow.endpoint == rollout.endpoint,
        RolloutRow.state == "done",
        RolloutRow.done_at < rollout.done_at,
        RolloutRow.created_at >= endpoint.created_at,  # never a former owner's
        RolloutRow.release != rollout.release,
    )
    return session.scalars(query.order_by(RolloutRow.done_at.desc()).limit(1)).one_or_none()
