"""The outbox: which objects changed, appended in the same transaction as the change.

Each service owns one outbox table in its own database. The reconciler tails it through the port
``Facts``. Ordered and at least once; waiting wakes at once for changes of this process and within
``POLL_S`` for changes of another one.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

import sqlalchemy as sa
from sqlalchemy import event, orm
from starlette import concurrency

from quintile.adapters import signals, sql
from quintile.core import errors, facts, meta

POLL_S: Final = 1.0
PAGE: Final = 1000
_PENDING = "quintile_outbox_pending"


def table(metadata: sa.MetaData) -> sa.Table:
    """Declare the table ``outbox`` (seq, kind, namespace, name) on a service's metadata."""
    return sa.Table(
        "outbox",
        metadata,
        sa.Column("seq", sql.BigId, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(253), nullable=False),
        sqlite_autoincrement=True,
    )


class Outbox:
    """Append to and tail one outbox table. One instance per service process."""

    def __init__(self, database: sql.Database, rows: sa.Table) -> None:
        self._database = database
        self._rows = rows
        self._signal = signals.Signal()
        self._bells: list[signals.Signal] = []

    def ring(self, bell: signals.Signal) -> None:
        """Notify ``bell`` too whenever a change is committed; for tails of several outboxes."""
        self._bells.append(bell)

    def append(self, session: orm.Session, kind: str, namespace: str, name: str) -> None:
        """Note that an object changed; visible and notified when ``session`` commits.

        The row is written right before the commit, behind a lock that lasts until it: numbers
        become visible in their order, and nothing else is locked after this lock.
        """
        pending: dict[meta.Key, None] = session.info.setdefault(_PENDING, {})
        if not pending:
            event.listen(session, "before_commit", self._write, once=True)
            event.listen(session, "after_commit", lambda _session: self._notify(), once=True)
        pending[meta.Key(kind, namespace, name)] = None

    def _write(self, session: orm.Session) -> None:
        keys = session.info.pop(_PENDING)
        # What is written along fails before the lock is taken, if it fails.
        session.flush()
        self._database.serialize(session, "outbox")
        session.execute(self._rows.insert(), [key._asdict() for key in keys])

    def _notify(self) -> None:
        for signal in (self._signal, *self._bells):
            signal.notify()

    def cursor(self) -> str:
        """Return the cursor of now: everything committed so far lies before it."""
        with self._database.read() as session:
            newest = session.scalar(sa.select(sa.func.max(self._rows.c.seq)))
        return str(newest or 0)

    def read(self, since: str) -> facts.Changes:
        """Return up to 1,000 changes after ``since`` without waiting; equal keys once.

        Raises:
            InvalidSpec: ``since`` is not a cursor of an outbox.
        """
        if not since:
            return facts.Changes(keys=(), cursor=self.cursor())
        if not since.isdigit():
            raise errors.InvalidSpec(
                f"{since!r} is not a cursor.",
                hint="Pass the cursor of the last answer.",
                field="since",
            )
        columns = self._rows.c
        query = (
            sa.select(columns.seq, columns.kind, columns.namespace, columns.name)
            .where(columns.seq > int(since))
            .order_by(columns.seq)
            .limit(PAGE)
        )
        with self._database.read() as session:
            found = session.execute(query).all()
        keys = dict.fromkeys(meta.Key(row.kind, row.namespace, row.name) for row in found)
        return facts.Changes(keys=tuple(keys), cursor=str(found[-1].seq) if found else since)

    def changed(self, since: str, *, wait_s: float) -> facts.Changes:
        """Return changes after ``since`` ("" = from now on); block up to ``wait_s`` for one."""
        deadline = time.monotonic() + wait_s
        while True:
            version = self._signal.version
            changes = self.read(since)
            left = deadline - time.monotonic()
            if changes.keys or not since or left <= 0:
                return changes
            self._signal.wait(version, timeout_s=min(left, POLL_S))

    async def follow(
        self, since: str, *, wait_s: float, gone: Callable[[], Awaitable[bool]]
    ) -> facts.Changes:
        """Like ``changed``, holding neither thread nor connection; ends early when ``gone()``."""
        deadline = time.monotonic() + wait_s
        while True:
            version = self._signal.version
            changes = await concurrency.run_in_threadpool(self.read, since)
            left = deadline - time.monotonic()
            if changes.keys or not since or left <= 0 or await gone():
                return changes
            await self._signal.wait_async(version, timeout_s=min(left, POLL_S))

    def prune(self, session: orm.Session, *, keep: int = 100_000) -> None:
        """Forget all but the newest ``keep`` rows; tails further behind catch up by a resync."""
        newest = session.scalar(sa.select(sa.func.max(self._rows.c.seq))) or 0
        session.execute(sa.delete(self._rows).where(self._rows.c.seq <= newest - keep))
