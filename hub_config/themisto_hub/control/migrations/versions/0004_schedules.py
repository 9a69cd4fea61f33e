"""Tables of schedules."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from themisto_hub.control.db import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward only: a step back is the backup that was made before."""
    op.create_table(
        "schedule",
        sa.Column("name", sa.String(48), primary_key=True),
        sa.Column("group_name", sa.String(48), nullable=False, index=True),
        sa.Column("owner", sa.String(120), nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("snapshot_sha256", sa.String(64), nullable=False),
        sa.Column("paused_reason", sa.Text, nullable=True),
        sa.Column("next_run_at", UtcDateTime, nullable=True, index=True),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "schedule_job",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("schedule", sa.String(48), sa.ForeignKey("schedule.name", ondelete="CASCADE"), nullable=False),
        sa.Column("due_at", UtcDateTime, nullable=False),
        sa.Column("group_name", sa.String(48), nullable=False),
        sa.Column("owner", sa.String(120), nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("snapshot_sha256", sa.String(64), nullable=False),
        sa.Column("state", sa.String(10), nullable=False, index=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("lost", sa.Integer, nullable=False),
        sa.Column("server", sa.String(30), nullable=True, index=True),
        sa.Column("held_until", UtcDateTime, nullable=True),
        sa.Column("call_by", UtcDateTime, nullable=True),
        sa.Column("waits", sa.Integer, nullable=False),
        sa.Column("not_before", UtcDateTime, nullable=False),
        sa.Column("started_at", UtcDateTime, nullable=True),
        sa.Column("ended_at", UtcDateTime, nullable=True),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("result", sa.JSON, nullable=True),
        sa.Column("outputs", sa.JSON, nullable=False),
        sa.UniqueConstraint("schedule", "due_at", name="uq_schedule_job_due"),
    )
    op.create_table(
        "schedule_server",
        sa.Column("name", sa.String(30), primary_key=True),
        sa.Column("owner", sa.String(120), nullable=False),
        sa.Column("stop", sa.Boolean, nullable=False, index=True),
    )
