"""Port ``EventSink`` on rows, and reading them: newest first, equal events counted.

Equal means: same resource (uid), type, reason and message. The newest ``KEEP`` rows stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from quintile import ports
from quintile.adapters import sql, sql_schema
from quintile.core import conditions, errors, runplan
from quintile.core.events import EventView

SCHEMA: Final = 1
KEEP: Final = 20_000
PRUNE_EVERY: Final = 500
MESSAGE_LIMIT: Final = 1024

METADATA: Final = sa.MetaData(naming_convention=sql.NAMING)
EVENTS: Final = sa.Table(
    "events",
    METADATA,
    sa.Column("id", sql.BigId, primary_key=True, autoincrement=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("namespace", sa.String(63), nullable=False),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("uid", sa.String(64), nullable=False),
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(256), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("first_time", sa.Float, nullable=False),
    sa.Column("last_time", sa.Float, nullable=False),
    sa.Index("ix_events_place", "namespace", "last_time"),
    sqlite_autoincrement=True,
)


class SqlEventSink:
    """Records and reads events. Blocking; thread-safe.

    Args:
        database: Where the table lies; it is made when missing.
        clock: Gives times.
    """

    def __init__(self, database: sql.Database, *, clock: ports.Clock) -> None:
        self._database = database
        self._clock = clock
        sql_schema.ensure(database, METADATA, name="events", version=SCHEMA)

    def emit(self, event: runplan.Event) -> None:
        """Record an event; an equal one is counted.

        Raises:
            Unavailable: The database is away, busy or full.
        """
        try:
            with self._database.write() as session:
                self._database.serialize(session, "events")
                self._record(session, event)
        except errors.StoreFull as error:
            raise errors.Unavailable(f"The event was not kept: {error}") from error

    def events(
        self, namespace: str, *, kind: str = "", name: str = "", limit: int = 100
    ) -> Sequence[EventView]:
        """Return the newest events of a namespace, newest first; "" does not filter."""
        columns = EVENTS.c
        query = sa.select(EVENTS).where(columns.namespace == namespace)
        if kind:
            query = query.where(columns.kind == kind)
        if name:
            query = query.where(columns.name == name)
        query = query.order_by(columns.last_time.desc(), columns.id.desc()).limit(limit)
        with self._database.read() as session:
            rows = session.execute(query).mappings().all()
        fields = EventView.model_fields
        return [EventView(**{field: row[field] for field in fields}) for row in rows]

    def _record(self, session: orm.Session, event: runplan.Event) -> None:
        now_s = self._clock.now()
        columns = EVENTS.c
        digest = _digest(event)
        counted = session.execute(
            sa.update(EVENTS)
            .where(columns.digest == digest)
            .values(count=columns.count + 1, last_time=now_s)
            .returning(columns.id)
        )
        if counted.first() is not None:
            return
        made = session.execute(
            sa.insert(EVENTS)
            .values(
                digest=digest,
                kind=event.kind,
                namespace=event.namespace,
                name=event.name,
                uid=event.uid,
                type=event.type,
                reason=conditions.clip(event.reason, 256),
                message=conditions.clip(event.message, MESSAGE_LIMIT),
                count=1,
                first_time=now_s,
                last_time=now_s,
            )
            .returning(columns.id)
        )
        number = int(made.scalar_one())
        if number % PRUNE_EVERY == 0:
            session.execute(sa.delete(EVENTS).where(columns.id <= number - KEEP))


def _digest(event: runplan.Event) -> str:
    place = (event.kind, event.namespace, event.name, event.uid)
    parts = (*place, event.type, event.reason, event.message)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
