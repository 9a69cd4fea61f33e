"""Columns of a rollout's steps and of their analysis."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from themisto_hub.control.db import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward only. Rollouts of before were asked for when only people promoted: they stay with people."""
    for column in (
        sa.Column("steps", sa.JSON, nullable=False, server_default="[]"),
        sa.Column("step", sa.Integer, nullable=False, server_default="0"),
        sa.Column("step_since", UtcDateTime, nullable=True),
        sa.Column("manual", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("dwell_s", sa.Integer, nullable=False, server_default="0"),
        sa.Column("tolerated", sa.JSON, nullable=False, server_default="{}"),
        sa.Column("verdict", sa.JSON, nullable=True),
    ):
        op.add_column("serving_rollout", column)
    op.execute("UPDATE serving_rollout SET step_since = updated_at WHERE state = 'running'")
