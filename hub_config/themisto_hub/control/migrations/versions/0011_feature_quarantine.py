"""Rows of features that are not as expected are kept apart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward only: a step back is the backup that was made before."""
    for name in ("feature_data", "feature_push"):
        with op.batch_alter_table(name) as table:
            table.add_column(sa.Column("rules", sa.String(64), nullable=False, server_default=""))
            table.add_column(sa.Column("quarantined", sa.JSON, nullable=False, server_default="[]"))
