"""Tables of serving: endpoints, releases, rollouts, approvals and the review page's tickets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Boolean, ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from themisto_hub.control.db import Base, UtcDateTime

__all__ = ["ApprovalRow", "EndpointRow", "OfferRow", "ReleaseRow", "RolloutRow", "TicketRow"]


class EndpointRow(Base):
    """A stable name and what answers under it now. It is nobody's where its group is empty."""

    __tablename__ = "serving_endpoint"

    name: Mapped[str] = mapped_column(String(48), primary_key=True)
    group_name: Mapped[str] = mapped_column(String(48), index=True)
    tier: Mapped[str] = mapped_column(String(8))
    demo: Mapped[bool] = mapped_column(Boolean)
    stable: Mapped[int | None] = mapped_column(Integer)
    previous: Mapped[int | None] = mapped_column(Integer)
    """Release that was stable before: stays loaded, `rollback` goes there."""
    candidate: Mapped[int | None] = mapped_column(Integer)
    weight_pct: Mapped[int] = mapped_column(Integer, default=0)
    strategy: Mapped[str | None] = mapped_column(String(16))
    retired: Mapped[bool] = mapped_column(Boolean, default=False)
    retired_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When the group that owns it now claimed it."""
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class OfferRow(Base):
    """A name that its group offers to another one."""

    __tablename__ = "serving_offer"

    endpoint: Mapped[str] = mapped_column(ForeignKey("serving_endpoint.name"), primary_key=True)
    to_group: Mapped[str] = mapped_column(String(48))
    by: Mapped[str] = mapped_column(String(120))
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class ReleaseRow(Base):
    """One immutable release: its whole content as JSON, and the columns it is looked up by."""

    __tablename__ = "serving_release"
    __table_args__ = (
        UniqueConstraint("endpoint", "number", name="uq_serving_release_number"),
        UniqueConstraint("endpoint", "content_sha256", name="uq_serving_release_content"),
    )

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    endpoint: Mapped[str] = mapped_column(ForeignKey("serving_endpoint.name"), index=True)
    number: Mapped[int] = mapped_column(Integer)
    author: Mapped[str] = mapped_column(String(120))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    content_sha256: Mapped[str] = mapped_column(String(64))
    artifact_sha256: Mapped[str] = mapped_column(String(64), index=True)
    hash: Mapped[str] = mapped_column(String(64))
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The ReleaseRequest without its rollout."""


class RolloutRow(Base):
    """How traffic moves to one release, and how far it has come."""

    __tablename__ = "serving_rollout"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    endpoint: Mapped[str] = mapped_column(ForeignKey("serving_endpoint.name"), index=True)
    release: Mapped[int] = mapped_column(Integer)
    strategy: Mapped[str] = mapped_column(String(16))
    weight_pct: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(20), index=True)
    stage: Mapped[str] = mapped_column(String(20), default="")
    message: Mapped[str] = mapped_column(Text, default="")
    requested_by: Mapped[str] = mapped_column(String(120))
    proved: Mapped[bool] = mapped_column(Boolean, default=False)
    """A clean process has repeated the goldens from the stored artifact (prod)."""
    approved: Mapped[bool] = mapped_column(Boolean, default=False)
    steps: Mapped[list[int]] = mapped_column(JSON, default=list)
    """Shares of the traffic, in percent, rising to 100; none where it does not move by steps."""
    step: Mapped[int] = mapped_column(Integer, default=0)
    """Index into `steps`."""
    step_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    manual: Mapped[bool] = mapped_column(Boolean, default=False)
    """Only a person takes the steps: asked for so, or paused."""
    dwell_s: Mapped[int] = mapped_column(Integer, default=0)
    tolerated: Mapped[dict[str, float]] = mapped_column(JSON, default=dict)
    verdict: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """The latest analysis, shown; what follows from it is in the state and the audit chain."""
    tries: Mapped[int] = mapped_column(Integer, default=0)
    """Attempts that a service which did not answer has cost so far."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    done_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its release became stable."""


class ApprovalRow(Base):
    """One person's decision about one rollout."""

    __tablename__ = "serving_approval"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    rollout: Mapped[str] = mapped_column(ForeignKey("serving_rollout.id"), index=True)
    by: Mapped[str] = mapped_column(String(120))
    decision: Mapped[str] = mapped_column(String(8))
    reason: Mapped[str] = mapped_column(Text, default="")
    release_hash: Mapped[str] = mapped_column(String(64))
    logged_in_at: Mapped[datetime] = mapped_column(UtcDateTime)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class TicketRow(Base):
    """The one-use authority inside a review page, kept as its SHA-256 only."""

    __tablename__ = "serving_ticket"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    rollout: Mapped[str] = mapped_column(ForeignKey("serving_rollout.id"))
    person: Mapped[str] = mapped_column(String(120))
    release_hash: Mapped[str] = mapped_column(String(64))
    stable: Mapped[int | None] = mapped_column(Integer)
    """The stable release that the shown difference was against."""
    logged_in_at: Mapped[datetime] = mapped_column(UtcDateTime)
    until: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
