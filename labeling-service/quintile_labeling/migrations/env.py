"""Alembic's entry point: runs on the connection that ``migrate`` opened."""

from __future__ import annotations

from alembic import context

from quintile_labeling import tables

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=tables.Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
