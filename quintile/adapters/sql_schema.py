"""Versioned tables of the adapters that keep rows without a migration history of their own.

One row per group of tables says which version lies in the database, so that an older program
refuses a newer database instead of reading it wrongly.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from quintile.adapters import sql
from quintile.core import errors

_METADATA: Final = sa.MetaData(naming_convention=sql.NAMING)
_VERSIONS: Final = sa.Table(
    "schema_versions",
    _METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)


def ensure(database: sql.Database, metadata: sa.MetaData, *, name: str, version: int) -> None:
    """Make the tables of ``metadata`` exist, under ``name`` at ``version``. Idempotent.

    Raises:
        Conflict: The database holds a newer version of these tables.
    """
    with database.write() as session:
        database.serialize(session, "schema_versions")
        connection = session.connection()
        _METADATA.create_all(connection)
        query = sa.select(_VERSIONS.c.version).where(_VERSIONS.c.name == name)
        stored = session.scalar(query)
        if stored is not None and stored > version:
            raise errors.Conflict(
                f"The tables of {name} are of a newer release (version {stored}; this release "
                f"knows {version}).",
                hint="Start the newer release, or restore a backup of this one.",
            )
        metadata.create_all(connection)
        if stored is None:
            session.execute(_VERSIONS.insert().values(name=name, version=version))
