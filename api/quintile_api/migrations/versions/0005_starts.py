"""A limit on how long a rank may start."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "generations",
        sa.Column[float]("start_timeout_s", sa.Double(), nullable=False, server_default="0"),
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_column("generations", "start_timeout_s")
