"""Tables of serving."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from themisto_hub.control.db import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward only: a step back is the backup that was made before."""
    op.create_table(
        "serving_endpoint",
        sa.Column("name", sa.String(48), primary_key=True),
        sa.Column("group_name", sa.String(48), nullable=False, index=True),
        sa.Column("tier", sa.String(8), nullable=False),
        sa.Column("demo", sa.Boolean, nullable=False),
        sa.Column("stable", sa.Integer, nullable=True),
        sa.Column("previous", sa.Integer, nullable=True),
        sa.Column("candidate", sa.Integer, nullable=True),
        sa.Column("weight_pct", sa.Integer, nullable=False),
        sa.Column("strategy", sa.String(16), nullable=True),
        sa.Column("retired", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "serving_release",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("endpoint", sa.String(48), sa.ForeignKey("serving_endpoint.name"), nullable=False, index=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("author", sa.String(120), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("content_sha256", sa.String(64), nullable=False),
        sa.Column("artifact_sha256", sa.String(64), nullable=False, index=True),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.UniqueConstraint("endpoint", "number", name="uq_serving_release_number"),
        sa.UniqueConstraint("endpoint", "content_sha256", name="uq_serving_release_content"),
    )
    op.create_table(
        "serving_rollout",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("endpoint", sa.String(48), sa.ForeignKey("serving_endpoint.name"), nullable=False, index=True),
        sa.Column("release", sa.Integer, nullable=False),
        sa.Column("strategy", sa.String(16), nullable=False),
        sa.Column("weight_pct", sa.Integer, nullable=False),
        sa.Column("state", sa.String(20), nullable=False, index=True),
        sa.Column("stage", sa.String(20), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("requested_by", sa.String(120), nullable=False),
        sa.Column("proved", sa.Boolean, nullable=False),
        sa.Column("approved", sa.Boolean, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.Column("done_at", UtcDateTime, nullable=True),
    )
    op.create_table(
        "serving_approval",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("rollout", sa.String(26), sa.ForeignKey("serving_rollout.id"), nullable=False, index=True),
        sa.Column("by", sa.String(120), nullable=False),
        sa.Column("decision", sa.String(8), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("release_hash", sa.String(64), nullable=False),
        sa.Column("logged_in_at", UtcDateTime, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "serving_ticket",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("rollout", sa.String(26), sa.ForeignKey("serving_rollout.id"), nullable=False),
        sa.Column("person", sa.String(120), nullable=False),
        sa.Column("release_hash", sa.String(64), nullable=False),
        sa.Column("stable", sa.Integer, nullable=True),
        sa.Column("logged_in_at", UtcDateTime, nullable=False),
        sa.Column("until", UtcDateTime, nullable=False),
        sa.Column("used_at", UtcDateTime, nullable=True),
    )
