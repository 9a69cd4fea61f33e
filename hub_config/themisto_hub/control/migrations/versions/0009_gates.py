"""Tables of gates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from themisto_hub.control.db import UtcDateTime

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward only: a step back is the backup that was made before."""
    op.create_table(
        "gate_holdout",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("group_name", sa.String(48), primary_key=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("columns", sa.JSON, nullable=False),
        sa.Column("digests", sa.JSON, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("stored_by", sa.String(120), nullable=False),
        sa.Column("stored_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "gate_policy",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("endpoint", sa.String(48), sa.ForeignKey("serving_endpoint.name"), nullable=False, index=True),
        sa.Column("quality", sa.JSON, nullable=True),
        sa.Column("by", sa.String(120), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "gate_result",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("endpoint", sa.String(48), sa.ForeignKey("serving_endpoint.name"), nullable=False, index=True),
        sa.Column("release", sa.Integer, nullable=False),
        sa.Column("rollout", sa.String(26), sa.ForeignKey("serving_rollout.id"), nullable=True, index=True),
        sa.Column("gate", sa.String(200), nullable=False),
        sa.Column("source", sa.String(10), nullable=False),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.Column("passed", sa.Boolean, nullable=True),
        sa.Column("says", sa.Text, nullable=False),
        sa.Column("value", sa.Float, nullable=True),
        sa.Column("champion_release", sa.Integer, nullable=True),
        sa.Column("champion", sa.Float, nullable=True),
        sa.Column("limit_value", sa.Float, nullable=True),
        sa.Column("slices", sa.JSON, nullable=False),
        sa.Column("holdout_sha256", sa.String(64), nullable=True),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "gate_retraining",
        sa.Column("endpoint", sa.String(48), sa.ForeignKey("serving_endpoint.name"), primary_key=True),
        sa.Column("schedule", sa.String(48), nullable=False),
        sa.Column("causes", sa.JSON, nullable=False),
        sa.Column("cooldown_s", sa.Integer, nullable=False),
        sa.Column("set_by", sa.String(120), nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.Column("last_job", sa.String(26), nullable=True),
        sa.Column("last_at", UtcDateTime, nullable=True),
        sa.Column("last_says", sa.Text, nullable=False),
    )
