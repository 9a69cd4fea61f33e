"""Rows to nouns: the one place where stored serving data becomes `themisto.serving.models`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from themisto.errors import NotFound
from themisto.serving.models import Endpoint, Release, ReleaseRequest
from themisto.serving.rollout import ACTIVE, Approval, Rollout
from themisto_hub.control.gates.records import pinned, results_of_rollout
from themisto_hub.control.serving.tables import ApprovalRow, EndpointRow, OfferRow, ReleaseRow, RolloutRow
from themisto_hub.settings import Deployment

__all__ = [
    "active_rollout",
    "endpoint_model",
    "endpoint_row",
    "latest_rollout",
    "locked_rollout",
    "release_hash",
    "release_model",
    "release_row",
    "rollout_model",
    "rollout_row",
]


def endpoint_row(session: Session, name: str, *, lock: bool = False) -> EndpointRow:
    """`lock`: nobody else changes it until the transaction ends. Raises NotFound."""
    row = session.get(EndpointRow, name, with_for_update=lock or None)
    if row is None or not row.group_name:
        raise NotFound(f"There is no endpoint '{name}'.", "See the names: %deploy status.")
    return row


def release_row(session: Session, endpoint: str, number: int) -> ReleaseRow:
    """Raises NotFound."""
    query = select(ReleaseRow).where(ReleaseRow.endpoint == endpoint, ReleaseRow.number == number)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(f"There is no release {endpoint}@{number}.", f"See them: %deploy status {endpoint}.")
    return row


def rollout_row(session: Session, rollout_id: str, *, endpoint: str | None = None) -> RolloutRow:
    """Raises NotFound, also where the rollout is another endpoint's."""
    row = session.get(RolloutRow, rollout_id)
    if row is None or endpoint not in (None, row.endpoint):
        raise NotFound(f"There is no rollout {rollout_id}.", "See the latest one: %deploy status.")
    return row


def locked_rollout(session: Session, rollout_id: str) -> tuple[EndpointRow, RolloutRow]:
    """The rollout and its endpoint, to be changed: nobody else does until the transaction ends.

    The endpoint is locked first, here as everywhere, so that two writers never wait for each other.
    """
    row = rollout_row(session, rollout_id)
    endpoint = endpoint_row(session, row.endpoint, lock=True)
    session.refresh(row, with_for_update=True)
    return endpoint, row


def latest_rollout(session: Session, endpoint: str, *, release: int | None = None) -> RolloutRow | None:
    """The newest rollout of the endpoint, or of one of its releases."""
    query = (
        select(RolloutRow)
        .where(RolloutRow.endpoint == endpoint)
        .order_by(RolloutRow.created_at.desc(), RolloutRow.id.desc())
        .limit(1)
    )
    if release is not None:
        query = query.where(RolloutRow.release == release)
    return session.scalars(query).one_or_none()


def active_rollout(session: Session, endpoint: str) -> RolloutRow | None:
    """The one that still has somewhere to go."""
    query = select(RolloutRow).where(RolloutRow.endpoint == endpoint, RolloutRow.state.in_(ACTIVE))
    return session.scalars(query.order_by(RolloutRow.created_at.desc(), RolloutRow.id.desc()).limit(1)).one_or_none()


def release_hash(row: ReleaseRow) -> str:
    """SHA-256 over all that the release is, endpoint, number and author included; what an approval is bound to."""
    record = {
        "id": row.id,
        "endpoint": row.endpoint,
        "number": row.number,
        "author": row.author,
        "created_at": row.created_at.isoformat(),
        "content": row.content,
    }
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def release_model(row: ReleaseRow) -> Release:
    """The release as it was posted, with what the server added."""
    request = ReleaseRequest.model_validate(row.content)
    fields = {name: getattr(request, name) for name in ReleaseRequest.model_fields}
    return Release(
        **fields,
        id=row.id,
        endpoint=row.endpoint,
        number=row.number,
        author=row.author,
        created_at=row.created_at,
        hash=row.hash,
    )


def rollout_model(session: Session, settings: Deployment, row: RolloutRow) -> Rollout:
    """The rollout with its approvals; its review page while it waits."""
    query = select(ApprovalRow).where(ApprovalRow.rollout == row.id).order_by(ApprovalRow.id)
    waits = row.state == "waiting_approval"
    return Rollout.model_validate(
        {
            "id": row.id,
            "endpoint": row.endpoint,
            "release": row.release,
            "strategy": row.strategy,
            "weight_pct": row.weight_pct,
            "state": row.state,
            "stage": row.stage,
            "message": row.message,
            "requested_by": row.requested_by,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
            "approvals": _approvals(session.scalars(query).all()),
            "steps": row.steps,
            "step": row.step,
            "step_since": row.step_since,
            "manual": row.manual,
            "verdict": row.verdict,
            "gates": results_of_rollout(session, row.id),
            "review_url": f"{settings.review_url}/approve/{row.id}" if waits else None,
        }
    )


def _approvals(rows: Sequence[ApprovalRow]) -> tuple[Approval, ...]:
    return tuple(
        Approval.model_validate(
            {
                "by": row.by,
                "decision": row.decision,
                "release_hash": row.release_hash,
                "logged_in_at": row.logged_in_at,
                "at": row.at,
            }
        )
        for row in rows
    )


def endpoint_model(session: Session, settings: Deployment, row: EndpointRow) -> Endpoint:
    """The endpoint with its latest rollout."""
    rollout, offer = latest_rollout(session, row.name), session.get(OfferRow, row.name)
    if rollout is not None and rollout.created_at < row.created_at:
        rollout = None  # of a former owner
    return Endpoint.model_validate(
        {
            "name": row.name,
            "group": row.group_name,
            "tier": row.tier,
            "demo": row.demo,
            "stable": row.stable,
            "candidate": row.candidate,
            "weight_pct": row.weight_pct,
            "strategy": row.strategy,
            "rollout": rollout_model(session, settings, rollout) if rollout else None,
            "pinned": pinned(session, row.name),
            "retired": row.retired,
            "offered_to": offer.to_group if offer else None,
            "updated_at": row.updated_at,
        }
    )
