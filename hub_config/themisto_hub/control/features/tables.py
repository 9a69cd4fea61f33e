"""Tables of features: definitions with all their versions, the rows behind views, materializations."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKeyConstraint, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from themisto_hub.control.db import Base, UtcDateTime

__all__ = [
    "DataRow",
    "EntityRow",
    "ErasureRow",
    "MaterializationRow",
    "PushRow",
    "RewrittenRow",
    "ServiceRow",
    "ViewRow",
]


class EntityRow(Base):
    """Whom features are about; the newest definition."""

    __tablename__ = "feature_entity"

    group_name: Mapped[str] = mapped_column(String(48), primary_key=True)
    name: Mapped[str] = mapped_column(String(48), primary_key=True)
    definition: Mapped[dict[str, Any]] = mapped_column(JSON)
    author: Mapped[str] = mapped_column(String(120))
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ViewRow(Base):
    """One immutable version of a view's definition."""

    __tablename__ = "feature_view"

    group_name: Mapped[str] = mapped_column(String(48), primary_key=True)
    name: Mapped[str] = mapped_column(String(48), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    definition: Mapped[dict[str, Any]] = mapped_column(JSON)
    sha256: Mapped[str] = mapped_column(String(64))
    author: Mapped[str] = mapped_column(String(120))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class DataRow(Base):
    """One file of rows that a version of a view has or had; the newest visible one counts."""

    __tablename__ = "feature_data"
    __table_args__ = (
        ForeignKeyConstraint(
            ["group_name", "view", "view_version"],
            ["feature_view.group_name", "feature_view.name", "feature_view.version"],
            name="fk_feature_data_view",
        ),
    )

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    group_name: Mapped[str] = mapped_column(String(48), index=True)
    view: Mapped[str] = mapped_column(String(48))
    view_version: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[str] = mapped_column(String(64))
    rows: Mapped[int] = mapped_column(BigInteger)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    first_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    author: Mapped[str] = mapped_column(String(120))
    written_at: Mapped[datetime] = mapped_column(UtcDateTime)
    rules: Mapped[str] = mapped_column(String(64), default="")
    """Digest of the expectations that its rows met."""
    quarantined: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    """Files of the rows that came with it and did not meet them, as `Quarantine` says."""
    left_out: Mapped[dict[str, int]] = mapped_column(JSON, default=dict)
    """How many rows that came with it are kept nowhere, by the reason."""
    layer: Mapped[str] = mapped_column(String(8), default="applied")
    """What it holds: "applied" what came with a definition, "pushed" what came by pushes, "both" one on the other."""
    visible: Mapped[bool] = mapped_column(Boolean, default=True)
    """Whether readers see it: not the layers of a view that has both."""
    used: Mapped[bool] = mapped_column(Boolean, default=False)
    """Whether it was handed out or materialized: then it is kept for ever."""


class PushRow(Base):
    """Rows that were pushed and are not yet part of the view's file."""

    __tablename__ = "feature_push"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    group_name: Mapped[str] = mapped_column(String(48), index=True)
    view: Mapped[str] = mapped_column(String(48))
    view_version: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[str] = mapped_column(String(64))
    rows: Mapped[int] = mapped_column(BigInteger)
    last_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    online: Mapped[bool] = mapped_column(Boolean)
    """Whether the online store has them."""
    author: Mapped[str] = mapped_column(String(120))
    written_at: Mapped[datetime] = mapped_column(UtcDateTime)
    rules: Mapped[str] = mapped_column(String(64), default="")
    quarantined: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)


class ErasureRow(Base):
    """One entity that was erased, as a keyed hash; the key itself only until it is done."""

    __tablename__ = "feature_erasure"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    group_name: Mapped[str] = mapped_column(String(48), index=True)
    entity: Mapped[str] = mapped_column(String(48))
    key_hash: Mapped[str] = mapped_column(String(64))
    key: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(10), index=True)
    views: Mapped[list[str]] = mapped_column(JSON)
    files: Mapped[int] = mapped_column(Integer, default=0)
    message: Mapped[str] = mapped_column(Text, default="")
    requested_by: Mapped[str] = mapped_column(String(120))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    done_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class RewrittenRow(Base):
    """A file of rows that was written anew because an entity in it was erased; the digest lives on as a name."""

    __tablename__ = "feature_rewritten"

    group_name: Mapped[str] = mapped_column(String(48), primary_key=True)
    view: Mapped[str] = mapped_column(String(48), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    became: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class ServiceRow(Base):
    """One immutable version of a feature service, as asked for and as resolved."""

    __tablename__ = "feature_service"

    group_name: Mapped[str] = mapped_column(String(48), primary_key=True)
    name: Mapped[str] = mapped_column(String(48), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    definition: Mapped[dict[str, Any]] = mapped_column(JSON)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    author: Mapped[str] = mapped_column(String(120))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class MaterializationRow(Base):
    """One run from the offline to the online store."""

    __tablename__ = "feature_materialization"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    group_name: Mapped[str] = mapped_column(String(48), index=True)
    view: Mapped[str] = mapped_column(String(48), index=True)
    since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    sha256: Mapped[str] = mapped_column(String(64))
    """The file of rows it reads, fixed when it was asked for."""
    state: Mapped[str] = mapped_column(String(10), index=True)
    rows_written: Mapped[int] = mapped_column(BigInteger, default=0)
    rows_total: Mapped[int] = mapped_column(BigInteger, default=0)
    reached: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """The newest event time that is online with it."""
    full: Mapped[bool] = mapped_column(Boolean, default=False)
    entities: Mapped[int] = mapped_column(BigInteger, default=0)
    targets: Mapped[list[int]] = mapped_column(JSON, default=list)
    """Versions of the view that have all of it online."""
    sent: Mapped[int] = mapped_column(BigInteger, default=0)
    """Rows of the version after these that were sent: where it goes on after a stop."""
    message: Mapped[str] = mapped_column(Text, default="")
    tries: Mapped[int] = mapped_column(Integer, default=0)
    requested_by: Mapped[str] = mapped_column(String(120))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
