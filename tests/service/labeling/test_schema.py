"""The migrated schema is the schema of the models."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import autogenerate
from alembic.runtime import migration
from sqlalchemy.dialects import postgresql

from quintile_labeling import migrations, tables
from quintile_labeling.queue import candidates


def test_migrations_give_the_tables_of_the_models(world: Any) -> None:
    with world.ctx.database.engine.connect() as connection:
        found = autogenerate.compare_metadata(
            migration.MigrationContext.configure(connection), tables.Base.metadata
        )
    assert found == []


def test_migrating_again_changes_nothing(world: Any) -> None:
    engine = world.ctx.database.engine
    before = sa.inspect(engine).get_table_names()
    migrations.migrate(engine)
    assert sa.inspect(engine).get_table_names() == before


def test_the_queue_speaks_postgresql_too() -> None:
    for statement in (candidates.FIND, candidates.READY, candidates.ANY):
        assert "EXISTS" in str(statement.compile(dialect=postgresql.dialect()))
