"""Rows to nouns: what was decided and what is pinned, as `themisto.serving.gates` has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from themisto.serving.gates import GateResult, Quality
from themisto.types import new_ulid
from themisto_hub.control.gates.tables import PolicyRow, ResultRow

__all__ = ["add_results", "pinned", "policy_at", "results_of", "results_of_rollout"]


def add_results(session: Session, endpoint: str, rollout: str | None, results: Iterable[GateResult]) -> None:
    """Keep them, inside the caller's transaction."""
    for one in results:
        session.add(
            ResultRow(
                id=new_ulid(),
                endpoint=endpoint,
                release=one.release,
                rollout=rollout,
                gate=one.gate,
                source=one.source,
                pinned=one.pinned,
                passed=one.passed,
                says=one.says,
                value=one.value,
                champion_release=one.champion_release,
                champion=one.champion,
                limit_value=one.limit,
                slices=[s.model_dump(mode="json") for s in one.slices],
                holdout_sha256=one.holdout_sha256,
                rows=one.rows,
                at=one.at,
            )
        )
    session.flush()


def results_of_rollout(session: Session, rollout: str) -> tuple[GateResult, ...]:
    """How the gates of a rollout were decided, oldest first."""
    query = select(ResultRow).where(ResultRow.rollout == rollout).order_by(ResultRow.id)
    return _models(session.scalars(query).all())


def results_of(session: Session, endpoint: str, release: int) -> tuple[GateResult, ...]:
    """The newest decision of each gate about a release, in the order in which they were made."""
    query = (
        select(ResultRow)
        .where(ResultRow.endpoint == endpoint, ResultRow.release == release)
        .order_by(ResultRow.id.desc())
        .limit(500)
    )
    newest: dict[tuple[str, str, bool], ResultRow] = {}
    for row in session.scalars(query):
        newest.setdefault((row.gate, row.source, row.pinned), row)
    return _models(list(reversed(newest.values())))


def _models(rows: Sequence[ResultRow]) -> tuple[GateResult, ...]:
    return tuple(
        GateResult.model_validate(
            {
                "gate": row.gate,
                "passed": row.passed,
                "says": row.says,
                "value": row.value,
                "champion": row.champion,
                "limit": row.limit_value,
                "slices": row.slices,
                "release": row.release,
                "champion_release": row.champion_release,
                "source": row.source,
                "pinned": row.pinned,
                "holdout_sha256": row.holdout_sha256,
                "rows": row.rows,
                "at": row.at,
            }
        )
        for row in rows
    )


def pinned(session: Session, endpoint: str) -> Quality | None:
    """What the endpoint pins now."""
    row = policy_at(session, endpoint)
    return Quality.model_validate(row.quality) if row is not None and row.quality is not None else None


def policy_at(session: Session, endpoint: str, at: datetime | None = None) -> PolicyRow | None:
    """The policy in force at a moment; without one, now."""
    query = select(PolicyRow).where(PolicyRow.endpoint == endpoint)
    if at is not None:
        query = query.where(PolicyRow.at <= at)
    return session.scalars(query.order_by(PolicyRow.at.desc(), PolicyRow.id.desc()).limit(1)).one_or_none()
