"""When a name was retired, offers of names to other groups, and the outbox of events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from themisto_hub.control.db import UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward only: a step back is the backup that was made before."""
    op.add_column("serving_endpoint", sa.Column("retired_at", UtcDateTime, nullable=True))
    op.execute("UPDATE serving_endpoint SET retired_at = updated_at WHERE retired")
    op.create_table(
        "serving_offer",
        sa.Column("endpoint", sa.String(48), sa.ForeignKey("serving_endpoint.name"), primary_key=True),
        sa.Column("to_group", sa.String(48), nullable=False),
        sa.Column("by", sa.String(120), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "event_delivery",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("event", sa.String(26), nullable=False),
        sa.Column("target", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before", UtcDateTime, nullable=False),
        sa.Column("problem", sa.String(200), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("ended_at", UtcDateTime, nullable=True),
    )
    op.create_index("ix_event_delivery_target", "event_delivery", ["target", "state", "not_before"])
