"""Table of labels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from themisto_hub.control.db import UtcDateTime

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward only: a step back is the backup that was made before."""
    op.create_table(
        "serving_label",
        sa.Column("endpoint", sa.String(48), sa.ForeignKey("serving_endpoint.name"), primary_key=True),
        sa.Column("about", sa.String(10), primary_key=True),
        sa.Column("id", sa.String(256), primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True),
        sa.Column("label", sa.JSON, nullable=False),
        sa.Column("known_at", UtcDateTime, nullable=False),
    )
