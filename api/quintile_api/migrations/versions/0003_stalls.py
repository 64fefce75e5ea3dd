"""Stalled steps and failure rules: what ranks answer when nothing moves, sizes of log chunks."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
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
            sa.Column("progress_timeout_s", sa.Double(), nullable=False, server_default="0"),
            sa.Column("stalled_s", sa.Double(), nullable=True),
        ),
        "ranks": (
            sa.Column("still_s", sa.Double(), nullable=False, server_default="0"),
            sa.Column("witness", sa.String(length=16), nullable=False, server_default=""),
            sa.Column("place", sa.String(length=256), nullable=False, server_default=""),
            sa.Column("waits", sa.Boolean(), nullable=False, server_default=sa.false()),
            sa.Column("action", sa.String(length=32), nullable=False, server_default=""),
        ),
        "log_chunks": (
            sa.Column("size", sa.Integer(), nullable=False, server_default="0"),
            sa.Column("dropped", sa.Integer(), nullable=False, server_default="0"),
        ),
    }
