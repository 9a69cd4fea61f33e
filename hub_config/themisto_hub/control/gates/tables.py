"""Tables of gates: hold-outs, what endpoints pin, how gates were decided, what is retrained on a breach."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Boolean, Float, ForeignKey, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from themisto_hub.control.db import Base, UtcDateTime

__all__ = ["HoldOutRow", "PolicyRow", "ResultRow", "RetrainingRow"]


class HoldOutRow(Base):
    """A stored hold-out, once for each group that has uploaded it: groups do not see each other's rows."""

    __tablename__ = "gate_holdout"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    group_name: Mapped[str] = mapped_column(String(48), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    rows: Mapped[int] = mapped_column(Integer)
    columns: Mapped[list[str]] = mapped_column(JSON)
    digests: Mapped[list[str]] = mapped_column(JSON)
    size_bytes: Mapped[int] = mapped_column(Integer)
    stored_by: Mapped[str] = mapped_column(String(120))
    stored_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PolicyRow(Base):
    """What an endpoint pins from `at` on: rows are only added, so that a diff can say what was before."""

    __tablename__ = "gate_policy"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    endpoint: Mapped[str] = mapped_column(ForeignKey("serving_endpoint.name"), index=True)
    quality: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """None: nothing is pinned any more."""
    by: Mapped[str] = mapped_column(String(120))
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class ResultRow(Base):
    """How one gate was decided about one release."""

    __tablename__ = "gate_result"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    endpoint: Mapped[str] = mapped_column(ForeignKey("serving_endpoint.name"), index=True)
    release: Mapped[int] = mapped_column(Integer)
    rollout: Mapped[str | None] = mapped_column(ForeignKey("serving_rollout.id"), index=True)
    gate: Mapped[str] = mapped_column(String(200))
    source: Mapped[str] = mapped_column(String(10))
    pinned: Mapped[bool] = mapped_column(Boolean)
    passed: Mapped[bool | None] = mapped_column(Boolean)
    says: Mapped[str] = mapped_column(Text)
    value: Mapped[float | None] = mapped_column(Float)
    champion_release: Mapped[int | None] = mapped_column(Integer)
    champion: Mapped[float | None] = mapped_column(Float)
    limit_value: Mapped[float | None] = mapped_column(Float)
    slices: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    holdout_sha256: Mapped[str | None] = mapped_column(String(64))
    rows: Mapped[int] = mapped_column(Integer)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class RetrainingRow(Base):
    """The schedule that is run when an endpoint's model has become too bad."""

    __tablename__ = "gate_retraining"

    endpoint: Mapped[str] = mapped_column(ForeignKey("serving_endpoint.name"), primary_key=True)
    schedule: Mapped[str] = mapped_column(String(48))
    """No foreign key: a schedule may be removed and made again; a name that is not there starts nothing."""
    causes: Mapped[list[str]] = mapped_column(JSON)
    cooldown_s: Mapped[int] = mapped_column(Integer)
    set_by: Mapped[str] = mapped_column(String(120))
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_job: Mapped[str | None] = mapped_column(String(26))
    last_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When a job was last started for it."""
    last_says: Mapped[str] = mapped_column(Text, default="")
