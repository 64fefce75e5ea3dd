"""The migrated schema is the schema of the models."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import autogenerate
from alembic.runtime import migration

from quintile_api import migrations
from quintile_api.migrations import models


def test_migrations_give_the_tables_of_the_models(world: Any) -> None:
    with world.ctx.database.engine.connect() as connection:
        found = autogenerate.compare_metadata(
            migration.MigrationContext.configure(connection), models.METADATA
        )
    assert found == []


def test_migrating_again_changes_nothing(world: Any) -> None:
    engine = world.ctx.database.engine
    before = sa.inspect(engine).get_table_names()
    migrations.migrate(engine)
    assert sa.inspect(engine).get_table_names() == before
