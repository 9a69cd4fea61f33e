"""Rows that are pushed into views, the layers a view's rows are made of, and entities that were erased."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from themisto_hub.control.db import UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward only: a step back is the backup that was made before."""
    op.create_table(
        "feature_push",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("group_name", sa.String(48), nullable=False, index=True),
        sa.Column("view", sa.String(48), nullable=False),
        sa.Column("view_version", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("last_at", UtcDateTime, nullable=True),
        sa.Column("online", sa.Boolean, nullable=False),
        sa.Column("author", sa.String(120), nullable=False),
        sa.Column("written_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "feature_erasure",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("group_name", sa.String(48), nullable=False, index=True),
        sa.Column("entity", sa.String(48), nullable=False),
        sa.Column("key_hash", sa.String(64), nullable=False),
        sa.Column("key", sa.Text, nullable=True),
        sa.Column("state", sa.String(10), nullable=False, index=True),
        sa.Column("views", sa.JSON, nullable=False),
        sa.Column("files", sa.Integer, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("requested_by", sa.String(120), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("done_at", UtcDateTime, nullable=True),
    )
    op.create_table(
        "feature_rewritten",
        sa.Column("group_name", sa.String(48), primary_key=True),
        sa.Column("view", sa.String(48), primary_key=True),
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("became", sa.String(64), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
    )
    with op.batch_alter_table("feature_data") as table:
        table.add_column(sa.Column("layer", sa.String(8), nullable=False, server_default="applied"))
        table.add_column(sa.Column("visible", sa.Boolean, nullable=False, server_default=sa.true()))
        table.add_column(sa.Column("used", sa.Boolean, nullable=False, server_default=sa.true()))
    with op.batch_alter_table("feature_materialization") as table:
        table.add_column(sa.Column("full", sa.Boolean, nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("entities", sa.BigInteger, nullable=False, server_default="0"))
        table.add_column(sa.Column("targets", sa.JSON, nullable=False, server_default="[]"))
        table.add_column(sa.Column("sent", sa.BigInteger, nullable=False, server_default="0"))
