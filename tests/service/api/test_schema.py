"""The migrated schema is the schema of the models; the OpenAPI file is up to date."""

from __future__ import annotations

import pathlib
from typing import Any

import sqlalchemy as sa
from alembic import autogenerate
from alembic.runtime import migration

from quintile_api import migrations, openapi
from quintile_api.migrations import models

ROOT = pathlib.Path(__file__).parents[3]


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


def test_the_openapi_file_is_up_to_date() -> None:
    path = ROOT / "docs" / "reference" / "openapi.json"
    assert openapi.main(["--check", str(path)]) == 0


def test_the_openapi_file_can_be_written_and_read_back(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "deep" / "openapi.json"
    assert openapi.main(["--check", str(path)]) == 1
    assert openapi.main([str(path)]) == 0
    assert openapi.main(["--check", str(path)]) == 0
