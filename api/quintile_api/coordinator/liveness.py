"""Finding silent agents: judged by the one replica that holds the database lease.

``tick`` is called about once a second by the application's background task. A verdict needs that
this process has been awake for the whole silence: after a start, or after a pause of its own
(machine asleep, database away), it first waits.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import orm

from quintile import ports
from quintile.adapters import sql
from quintile_api import leases
from quintile_api.coordinator import service, state
from quintile_api.runs import tables

HEARTBEAT_S = 2.0
PAUSE_S = 5.0
LEASE_S = 10.0
WAIT_CAP_S = 60.0


class Liveness:
    """Flushes heartbeats and gives up agents that stay silent."""

    def __init__(
        self,
        coordinator: service.Coordinator,
        *,
        database: sql.Database,
        clock: ports.Clock,
        silence_s: float,
        flush_s: float,
        holder: str,
    ) -> None:
        self._coordinator = coordinator
        self._database = database
        self._clock = clock
        self._silence_s = silence_s
        self._flush_s = flush_s
        self._holder = holder
        self._awake_since_s = clock.now()
        self._last_tick_s = self._awake_since_s
        self._flushed_s = 0.0
        self._wait_s = max(3 * HEARTBEAT_S, silence_s)

    def tick(self) -> None:
        """Do what is due.

        Raises:
            Unavailable: The database is away; the pause counts as our own silence.
        """
        now_s = self._clock.now()
        pause_s = now_s - self._last_tick_s
        if pause_s > PAUSE_S:
            self._awake_since_s = now_s
            self._wait_s = min(WAIT_CAP_S, max(self._wait_s, pause_s))
        if now_s - self._flushed_s >= self._flush_s:
            self._coordinator.flush()
            self._flushed_s = now_s
        if leases.hold(self._database, "liveness", holder=self._holder, ttl_s=LEASE_S, now_s=now_s):
            self._judge(now_s)
        # Only a tick that went through counts as being awake.
        self._last_tick_s = now_s

    def _judge(self, now_s: float) -> None:
        if now_s - self._awake_since_s < self._wait_s:
            return
        before_s = now_s - self._silence_s
        for uid in self._silent(before_s):
            self._coordinator.lose(uid, silent_since_s=before_s)

    def _silent(self, before_s: float) -> list[str]:
        newer = orm.aliased(tables.Generation)
        followed = sa.exists().where(
            newer.trial_uid == tables.Generation.trial_uid,
            newer.attempt == tables.Generation.attempt,
            newer.generation > tables.Generation.generation,
        )
        query = (
            sa.select(tables.AgentRow.trial_uid)
            .join(
                tables.Generation,
                sa.and_(
                    tables.Generation.trial_uid == tables.AgentRow.trial_uid,
                    tables.Generation.attempt == tables.AgentRow.attempt,
                    tables.Generation.generation == tables.AgentRow.generation,
                ),
            )
            .where(
                tables.AgentRow.seen_s < before_s,
                tables.Generation.state.not_in(state.TERMINAL),
                sa.or_(tables.Generation.state != "draining", ~followed),
            )
            .distinct()
        )
        with self._database.read() as session:
            return sorted(session.scalars(query))
