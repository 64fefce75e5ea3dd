"""Heartbeats of agents: kept in memory, written in one batch every few seconds."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import messages
from quintile_api.runs import tables

DOUBT_S = 1.0
"""The shortest limit on a step that can be set."""
AgentKey = tuple[str, int, str, int]
"""(trial uid, attempt, role, index)."""


@dataclass(frozen=True)
class Beat:
    """The newest sign of one agent and what it last said about its ranks."""

    seen_s: float
    boot_id: str
    generation: int
    ranks: tuple[messages.RankReport, ...]


class Pulse:
    """The signs since the last flush. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fresh: dict[AgentKey, Beat] = {}

    def beat(self, uid: str, message: messages.Envelope, *, now_s: float) -> None:
        """Note a sign of an agent; a join counts as well as a heartbeat."""
        ranks = tuple(message.ranks) if isinstance(message, messages.Heartbeat) else ()
        key = (uid, message.attempt, message.role, message.index)
        found = Beat(now_s, message.boot_id, message.generation, ranks)
        with self._lock:
            self._fresh[key] = found

    def take(self) -> dict[AgentKey, Beat]:
        """Return the signs since the last call and forget them."""
        with self._lock:
            fresh, self._fresh = self._fresh, {}
            return fresh

    def put_back(self, beats: dict[AgentKey, Beat]) -> None:
        """Keep signs that could not be written; newer ones win."""
        with self._lock:
            self._fresh = {**beats, **self._fresh}


def store(session: orm.Session, beats: dict[AgentKey, Beat]) -> set[str]:
    """Write signs and rank reports; return the uids of trials whose progress moved."""
    moved: set[str] = set()
    for (uid, attempt, role, index), beat in sorted(beats.items()):
        session.execute(
            sa.update(tables.AgentRow)
            .where(
                tables.AgentRow.trial_uid == uid,
                tables.AgentRow.attempt == attempt,
                tables.AgentRow.role == role,
                tables.AgentRow.index == index,
                tables.AgentRow.boot_id == beat.boot_id,
                tables.AgentRow.seen_s < beat.seen_s,
            )
            .values(seen_s=beat.seen_s)
        )
        for report in beat.ranks:
            if _store_rank(session, (uid, attempt, beat.generation), beat.seen_s, report):
                moved.add(uid)
    return moved


def doubtful(beats: Mapping[AgentKey, Beat]) -> set[str]:
    """Return the uids of trials with a rank that has told no progress for a while."""
    return {
        key[0]
        for key, beat in beats.items()
        if any(report.still_s >= DOUBT_S or report.witness for report in beat.ranks)
    }


def _store_rank(
    session: orm.Session,
    generation: tuple[str, int, int],
    seen_s: float,
    report: messages.RankReport,
) -> bool:
    row = session.get(tables.RankRow, (*generation, report.rank))
    if row is None or row.exit_code is not None:
        return False
    before = (row.state, row.step, row.total_steps)
    row.state, row.pid = report.state, report.pid
    row.step = max(row.step, report.step)
    row.total_steps = max(row.total_steps, report.total_steps)
    row.updated_s, row.still_s = seen_s, report.still_s
    row.witness, row.place, row.waits = report.witness, report.where, report.waits
    run = session.get(tables.TrialRun, generation[0])
    if run is None or before == (row.state, row.step, row.total_steps):
        return False
    if run.attempt == generation[1]:
        run.step = max(run.step, row.step)
        run.total_steps = max(run.total_steps, row.total_steps)
        run.updated_s = seen_s
    return True
