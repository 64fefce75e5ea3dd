"""Elastic runs: how few members are enough, since when a generation is as it is, who leaves."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    for table, columns in _new().items():
        for column in columns:
            op.add_column(table, column)


def downgrade() -> None:
    """Remove them."""
    for table, columns in _new().items():
        for column in columns:
            op.drop_column(table, column.name)


def _new() -> dict[str, tuple[sa.Column[Any], ...]]:
    return {
        "generations": (
            sa.Column("least", sa.Integer(), nullable=False, server_default="0"),
            sa.Column("since_s", sa.Double(), nullable=False, server_default="0"),
            sa.Column("why", sa.String(length=256), nullable=False, server_default=""),
        ),
        "agents": (
            sa.Column("joined_s", sa.Double(), nullable=False, server_default="0"),
            sa.Column("leaving", sa.Boolean(), nullable=False, server_default=sa.false()),
        ),
    }
