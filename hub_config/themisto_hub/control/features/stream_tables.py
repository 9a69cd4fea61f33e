"""Tables of views' streams: how far each topic is read, what was no row, how the consumer does."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from themisto_hub.control.db import Base, UtcDateTime

__all__ = ["PlaceRow", "PoisonRow", "StreamRow"]


class StreamRow(Base):
    """How the stream of a view does, as its consumer told last."""

    __tablename__ = "feature_stream"

    group_name: Mapped[str] = mapped_column(String(48), primary_key=True)
    view: Mapped[str] = mapped_column(String(48), primary_key=True)
    lag: Mapped[int | None] = mapped_column(BigInteger)
    problem: Mapped[str] = mapped_column(Text, default="")
    heard_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reached: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """The newest event time that came by it."""
    poisoned: Mapped[int] = mapped_column(BigInteger, default=0)
    """Messages that were no row, ever."""


class PlaceRow(Base):
    """Up to where a version of a view has the messages of a partition; changed with their rows or not at all."""

    __tablename__ = "feature_stream_place"

    group_name: Mapped[str] = mapped_column(String(48), primary_key=True)
    view: Mapped[str] = mapped_column(String(48), primary_key=True)
    view_version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    next_offset: Mapped[int] = mapped_column(BigInteger)


class PoisonRow(Base):
    """One message that is no row: where it stands and why; what it says stays in the topic."""

    __tablename__ = "feature_stream_poison"

    group_name: Mapped[str] = mapped_column(String(48), primary_key=True)
    view: Mapped[str] = mapped_column(String(48), primary_key=True)
    topic: Mapped[str] = mapped_column(String(249), primary_key=True)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    offset: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    view_version: Mapped[int] = mapped_column(Integer)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
