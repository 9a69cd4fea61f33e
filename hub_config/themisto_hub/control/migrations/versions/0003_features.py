"""Tables of features."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from themisto_hub.control.db import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward only: a step back is the backup that was made before."""
    op.create_table(
        "feature_entity",
        sa.Column("group_name", sa.String(48), primary_key=True),
        sa.Column("name", sa.String(48), primary_key=True),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("author", sa.String(120), nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "feature_view",
        sa.Column("group_name", sa.String(48), primary_key=True),
        sa.Column("name", sa.String(48), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("author", sa.String(120), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "feature_data",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("group_name", sa.String(48), nullable=False, index=True),
        sa.Column("view", sa.String(48), nullable=False),
        sa.Column("view_version", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("first_at", UtcDateTime, nullable=True),
        sa.Column("last_at", UtcDateTime, nullable=True),
        sa.Column("author", sa.String(120), nullable=False),
        sa.Column("written_at", UtcDateTime, nullable=False),
        sa.ForeignKeyConstraint(
            ["group_name", "view", "view_version"],
            ["feature_view.group_name", "feature_view.name", "feature_view.version"],
            name="fk_feature_data_view",
        ),
    )
    op.create_table(
        "feature_service",
        sa.Column("group_name", sa.String(48), primary_key=True),
        sa.Column("name", sa.String(48), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("author", sa.String(120), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "feature_materialization",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("group_name", sa.String(48), nullable=False, index=True),
        sa.Column("view", sa.String(48), nullable=False, index=True),
        sa.Column("since", UtcDateTime, nullable=True),
        sa.Column("until", UtcDateTime, nullable=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("state", sa.String(10), nullable=False, index=True),
        sa.Column("rows_written", sa.BigInteger, nullable=False),
        sa.Column("rows_total", sa.BigInteger, nullable=False),
        sa.Column("reached", UtcDateTime, nullable=True),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("requested_by", sa.String(120), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
    )
