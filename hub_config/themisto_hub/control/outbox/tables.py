"""Table of the outbox: one row for each event and each target that is to hear of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from themisto_hub.control.db import Base, UtcDateTime

__all__ = ["DeliveryRow"]


class DeliveryRow(Base):
    """waiting -> sent or failed. Written in the transaction of what happened."""

    __tablename__ = "event_delivery"
    __table_args__ = (Index("ix_event_delivery_target", "target", "state", "not_before"),)

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    event: Mapped[str] = mapped_column(String(26))
    target: Mapped[str] = mapped_column(String(16))
    """`Target.key`: the address itself is not in the database."""
    kind: Mapped[str] = mapped_column(String(40))
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The Event."""
    state: Mapped[str] = mapped_column(String(8))
    attempts: Mapped[int] = mapped_column(Integer)
    not_before: Mapped[datetime] = mapped_column(UtcDateTime)
    """When it is tried next; while it is being tried, until when nobody else may."""
    problem: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
