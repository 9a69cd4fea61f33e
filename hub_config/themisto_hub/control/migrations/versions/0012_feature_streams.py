"""Topics that come into feature views: how far they are read, what was no row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from themisto_hub.control.db import UtcDateTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward only: a step back is the backup that was made before."""
    op.create_table(
        "feature_stream",
        sa.Column("group_name", sa.String(48), primary_key=True),
        sa.Column("view", sa.String(48), primary_key=True),
        sa.Column("lag", sa.BigInteger, nullable=True),
        sa.Column("problem", sa.Text, nullable=False),
        sa.Column("heard_at", UtcDateTime, nullable=True),
        sa.Column("reached", UtcDateTime, nullable=True),
        sa.Column("poisoned", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "feature_stream_place",
        sa.Column("group_name", sa.String(48), primary_key=True),
        sa.Column("view", sa.String(48), primary_key=True),
        sa.Column("view_version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "feature_stream_poison",
        sa.Column("group_name", sa.String(48), primary_key=True),
        sa.Column("view", sa.String(48), primary_key=True),
        sa.Column("topic", sa.String(249), primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("offset", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("view_version", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_feature_stream_poison_at", "feature_stream_poison", ["at"])
