"""Tables of schedules: what is to run, each firing of it, and the servers started for them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Boolean, ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from themisto_hub.control.db import Base, UtcDateTime

__all__ = ["JobRow", "ScheduleRow", "ServerRow"]


class ScheduleRow(Base):
    """One schedule. It is paused where there is a reason to be."""

    __tablename__ = "schedule"

    name: Mapped[str] = mapped_column(String(48), primary_key=True)
    group_name: Mapped[str] = mapped_column(String(48), index=True)
    owner: Mapped[str] = mapped_column(String(120))
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The ScheduleRequest."""
    snapshot_sha256: Mapped[str] = mapped_column(String(64))
    paused_reason: Mapped[str | None] = mapped_column(Text)
    next_run_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class JobRow(Base):
    """One firing: who writes the row for (schedule, due time) first has fired it, nobody else can."""

    __tablename__ = "schedule_job"
    __table_args__ = (UniqueConstraint("schedule", "due_at", name="uq_schedule_job_due"),)

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    schedule: Mapped[str] = mapped_column(ForeignKey("schedule.name", ondelete="CASCADE"))
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    group_name: Mapped[str] = mapped_column(String(48))
    owner: Mapped[str] = mapped_column(String(120))
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The schedule's ScheduleRequest as it was when due."""
    snapshot_sha256: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(10), index=True)
    attempt: Mapped[int] = mapped_column(Integer, default=1)
    lost: Mapped[int] = mapped_column(Integer, default=0)
    """How many of its servers have vanished."""
    server: Mapped[str | None] = mapped_column(String(30), index=True)
    """Name of the server of this try, while it is starting or running."""
    held_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Until then, the worker that took it is asking for its server; afterwards any worker may look."""
    call_by: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Until then, its server must have asked for its task."""
    waits: Mapped[int] = mapped_column(Integer, default=0)
    """How often the hub has put it off."""
    not_before: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    message: Mapped[str] = mapped_column(Text, default="")
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """The JobReport of the newest try that reported."""
    outputs: Mapped[list[str]] = mapped_column(JSON)


class ServerRow(Base):
    """A hub server of ours, until the hub has stopped it."""

    __tablename__ = "schedule_server"

    name: Mapped[str] = mapped_column(String(30), primary_key=True)
    owner: Mapped[str] = mapped_column(String(120))
    stop: Mapped[bool] = mapped_column(Boolean, default=False, index=True)
