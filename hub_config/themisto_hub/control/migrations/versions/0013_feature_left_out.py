"""Rows of features that are kept nowhere are counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward only: a step back is the backup that was made before."""
    with op.batch_alter_table("feature_data") as table:
        table.add_column(sa.Column("left_out", sa.JSON, nullable=False, server_default="{}"))
