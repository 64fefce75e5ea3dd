"""Migrations of both services: up and down, and several processes at the same time."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from concurrent import futures
from types import ModuleType

import pytest
import sqlalchemy as sa
from alembic import command

from quintile.adapters import sql
from quintile.testing import databases, postgres
from quintile_api import migrations as of_api
from quintile_labeling import migrations as of_labeling

SERVICES = pytest.mark.parametrize("service", [of_api, of_labeling], ids=["api", "labeling"])


@pytest.fixture
def url(tmp_path: pathlib.Path) -> Iterator[str]:
    yield databases.at(tmp_path / "a.db")
    databases.drop(tmp_path / "a.db")


@SERVICES
def test_down_to_nothing_and_up_again(url: str, service: ModuleType) -> None:
    engine = sql.create_engine(url)
    service.migrate(engine)
    before = _shape(engine)
    with engine.begin() as connection:
        command.downgrade(service.alembic_config(connection), "base")
    assert set(_shape(engine)) == {"alembic_version"}
    service.migrate(engine)
    assert _shape(engine) == before
    engine.dispose()


@SERVICES
def test_processes_that_start_together_migrate_once(url: str, service: ModuleType) -> None:
    if not postgres.wanted():
        pytest.skip(f"set {postgres.KEY}=postgres: one SQLite file belongs to one process")

    def start(_number: int) -> str:
        own = sql.in_schema(url, "part")
        engine = sql.create_engine(own)
        service.migrate(engine)
        engine.dispose()
        return own

    with futures.ThreadPoolExecutor(4) as pool:
        (own,) = set(pool.map(start, range(4)))
    engine = sql.create_engine(own)
    tables = sa.inspect(engine).get_table_names("part")
    assert "outbox" in tables
    assert sa.inspect(engine).get_table_names("public") == []
    engine.dispose()


def test_services_share_a_database_without_meeting(url: str) -> None:
    """Both have a table ``leases`` and a table ``outbox``."""
    if not postgres.wanted():
        pytest.skip(f"set {postgres.KEY}=postgres: SQLite has no schemas")
    for schema, service in (("api", of_api), ("labeling", of_labeling)):
        engine = sql.create_engine(sql.in_schema(url, schema))
        service.migrate(engine)
        engine.dispose()
    engine = sql.create_engine(url)
    for schema in ("api", "labeling"):
        assert {"leases", "outbox"} <= set(sa.inspect(engine).get_table_names(schema))
    engine.dispose()


def _shape(engine: sa.Engine) -> dict[str, list[str]]:
    inspector = sa.inspect(engine)
    return {
        table: sorted(str(column["name"]) for column in inspector.get_columns(table))
        for table in inspector.get_table_names()
        if not table.startswith("sqlite_")
    }
