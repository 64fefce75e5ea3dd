"""What the API's tables say of runs, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from quintile.adapters import http_figures, sql
from quintile_api.runs import tables

LIVE: Final = ("forming", "running", "draining")


class RunFigures:
    """Reads gauges of the coordinator; one short transaction at each scrape."""

    def __init__(self, database: sql.Database) -> None:
        self._database = database

    def read(self) -> Iterator[http_figures.Gauge]:
        """Yield generations and agents at work, and how often runs began anew in place."""
        row, agent = tables.Generation, tables.AgentRow
        states = sa.select(row.state, sa.func.count()).group_by(row.state)
        same = sa.and_(
            agent.trial_uid == row.trial_uid,
            agent.attempt == row.attempt,
            agent.generation == row.generation,
        )
        agents = (
            sa.select(row.state, sa.func.count())
            .select_from(agent)
            .join(row, same)
            .where(row.state.in_(LIVE))
            .group_by(row.state)
        )
        again = sa.select(sa.func.count()).select_from(row).where(row.generation > 1)
        with self._database.read() as session:
            by_state = {str(state): count for state, count in session.execute(states)}
            joined = {str(state): count for state, count in session.execute(agents)}
            restarts = session.scalar(again) or 0
        yield http_figures.Gauge(
            "generations",
            "Generations of all attempts, by state.",
            ("state",),
            {(state,): float(count) for state, count in by_state.items()},
        )
        yield http_figures.Gauge(
            "agents",
            "Agents that joined a generation under way, by its state.",
            ("state",),
            {(state,): float(joined.get(state, 0)) for state in LIVE},
        )
        yield http_figures.Gauge(
            "restarts_in_place", "Generations after the first one.", (), {(): float(restarts)}
        )
