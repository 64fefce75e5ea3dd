"""Schema migrations of the labeling database, packaged with the service."""

from __future__ import annotations

import pathlib

import sqlalchemy as sa
from alembic import command, config


def migrate(engine: sa.Engine) -> None:
    """Bring the database to the newest schema. Idempotent; one transaction.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database is of a newer release, or is damaged.
    """
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(5138432)"))
        command.upgrade(alembic_config(connection), "head")


def alembic_config(connection: sa.Connection) -> config.Config:
    """Return Alembic's configuration for an open connection."""
    chosen = config.Config()
    chosen.set_main_option("script_location", str(pathlib.Path(__file__).parent))
    chosen.set_main_option("path_separator", "os")
    chosen.attributes["connection"] = connection
    return chosen
