"""Forgetting what nobody can use any more: expired sessions and links, old outbox rows.

One replica does it for all, about once an hour.
"""

from __future__ import annotations

from typing import Final

from quintile import ports
from quintile.adapters import outbox, sql
from quintile_api import leases
from quintile_api.identity import repository

EVERY_S: Final = 3600.0
KEEP_CHANGES: Final = 100_000


class Housekeeping:
    """Called every second by the background work; does something once an hour."""

    def __init__(
        self,
        *,
        database: sql.Database,
        changes: outbox.Outbox,
        clock: ports.Clock,
        holder: str,
    ) -> None:
        self._database = database
        self._changes = changes
        self._clock = clock
        self._holder = holder
        self._done_s = 0.0

    def tick(self) -> None:
        """Do what is due.

        Raises:
            Unavailable: The database is away; the next tick tries again.
        """
        now_s = self._clock.now()
        if now_s - self._done_s < EVERY_S:
            return
        held = leases.hold(
            self._database, "housekeeping", holder=self._holder, ttl_s=EVERY_S, now_s=now_s
        )
        if held is not None:
            with self._database.write() as session:
                repository.forget_expired(session, now_s=now_s)
                self._changes.prune(session, keep=KEEP_CHANGES)
        self._done_s = now_s
