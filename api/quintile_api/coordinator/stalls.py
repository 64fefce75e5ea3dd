"""Ranks that get no further, in a step or before the first: found, witnessed, started again.

Agents say for how long each rank has told no progress, by their own clocks, so that an API that was
away mistakes nothing. A stall is first noted (the agents then ask every rank for its stack), and
ends the generation when all ranks that run were heard, or after ``WITNESS_WAIT_S``. Called inside
the transaction that stores heartbeats; nothing here commits.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import messages
from quintile_api.coordinator import state, transitions
from quintile_api.runs import tables

WITNESS_WAIT_S: Final = 10.0
SURVIVORS_WAIT_S: Final = 6.0
FINISHED_FACTOR: Final = 3
"""After its last step a rank still evaluates and saves; that may take so many times as long."""
REASON: Final = "Stalled"
STARTING: Final = "starting"
_KINDS: Final[Mapping[str, int]] = {"stopped": 0, "silent": 1, "": 2, "stack": 3}


@dataclass(frozen=True)
class Limit:
    """For how long a rank may tell nothing new (0 = for ever), and what such a silence is."""

    seconds: float
    setting: str
    what: str


NONE: Final = Limit(0.0, "", "")


def is_suspect(row: tables.Generation, message: messages.Heartbeat) -> bool:
    """Return whether a heartbeat may show a stall, or answer the question about one."""
    if row.state != "running":
        return False
    least_s = min(_set(row), default=float("inf"))
    return row.stalled_s is not None or any(report.still_s > least_s for report in message.ranks)


def watch(
    session: orm.Session, run: tables.TrialRun, row: tables.Generation, *, now_s: float
) -> bool:
    """Go one step on with a generation that may stand still; return whether that changed it."""
    if row.state != "running" or not _set(row) or run.stop_s is not None:
        return False
    ranks = [rank for rank in state.ranks(session, row) if rank.exit_code is None]
    still = _still(session, row, ranks)
    if not still:
        moved_on = row.stalled_s is not None and now_s - row.stalled_s > WITNESS_WAIT_S
        row.stalled_s = None if moved_on else row.stalled_s
        return moved_on
    if row.stalled_s is None:
        row.stalled_s = now_s
        return True
    unheard = [rank for rank in ranks if not rank.witness]
    if unheard and now_s - row.stalled_s < WITNESS_WAIT_S:
        return False
    longest = max(still, key=lambda rank: rank.still_s)
    loss = _loss(late(ranks), longest.still_s, _limit(session, row, longest))
    transitions.step_down(session, run, row, loss=loss, now_s=now_s)
    return True


def hear_survivors(
    session: orm.Session, row: tables.Generation, lost: Collection[tuple[str, int]], *, now_s: float
) -> bool:
    """Return whether the ranks of agents that live were heard, now that others are lost.

    The first call asks them: where they wait for the lost ones belongs into the log, too.
    """
    if row.state != "running":
        return True  # they are on their way out
    if row.stalled_s is None:
        row.stalled_s = now_s
    waiting = [
        rank
        for rank in state.ranks(session, row)
        if rank.exit_code is None and (rank.role, rank.index) not in lost and not rank.witness
    ]
    return not waiting or now_s - row.stalled_s >= SURVIVORS_WAIT_S


def late(ranks: Sequence[tables.RankRow]) -> tables.RankRow:
    """Return the rank that the others wait for, as far as can be told.

    In this order: its process is stopped, it gave no stack, its agent was not heard, it is behind,
    it is not in a place where ranks wait for each other, it is where the fewest are.
    """
    places = collections.Counter(rank.place for rank in ranks)

    def order(rank: tables.RankRow) -> tuple[int, float, bool, int, bool, int]:
        # Who tells no steps is not behind; who has not begun is.
        told = rank.step >= 0 or rank.state == STARTING
        step = rank.step if told else float("inf")
        kind = _KINDS.get(rank.witness, 2)
        return kind, step, rank.waits, places[rank.place], rank.role != "worker", rank.rank

    return min(ranks, key=order)


def _still(
    session: orm.Session, row: tables.Generation, ranks: Sequence[tables.RankRow]
) -> list[tables.RankRow]:
    """Return the workers that take too long."""
    workers = [rank for rank in ranks if rank.role == "worker"]
    return [rank for rank in workers if 0 < _limit(session, row, rank).seconds < rank.still_s]


def _limit(session: orm.Session, row: tables.Generation, rank: tables.RankRow) -> Limit:
    """Return what a worker is measured by. Who never tells steps is not measured by them.

    A process that is stopped counts whatever its program tells: no work looks like that.
    """
    step_s, start_s = row.progress_timeout_s, row.start_timeout_s
    finished = 0 < rank.total_steps <= rank.step
    step = Limit(
        step_s * (FINISHED_FACTOR if finished else 1),
        f"telemetry.progressTimeoutSeconds is {step_s:g}",
        "no step was finished",
    )
    start = Limit(
        start_s, f"telemetry.startTimeoutSeconds is {start_s:g}", "the start got no further"
    )
    if rank.step >= 0:
        return step
    if rank.state == "stopped":
        return min((one for one in (step, start) if one.seconds > 0), key=lambda one: one.seconds)
    if rank.state == STARTING and start_s > 0:
        # In a later generation as well: libraries load anew there.
        return start
    return step if _told_before(session, rank) else NONE


def _set(row: tables.Generation) -> list[float]:
    """Return the limits of a generation, in seconds, that are set."""
    return [limit for limit in (row.progress_timeout_s, row.start_timeout_s) if limit > 0]


def _told_before(session: orm.Session, rank: tables.RankRow) -> bool:
    """Return whether a rank told steps in an earlier generation of the attempt."""
    query = sa.select(tables.RankRow.rank).where(
        tables.RankRow.trial_uid == rank.trial_uid,
        tables.RankRow.attempt == rank.attempt,
        tables.RankRow.rank == rank.rank,
        tables.RankRow.role == rank.role,
        tables.RankRow.step >= 0,
    )
    return session.scalars(query.limit(1)).first() is not None


def _loss(rank: tables.RankRow, still_s: float, limit: Limit) -> transitions.Loss:
    done = f"after step {rank.step}" if rank.step >= 0 else "before its first step"
    sentence = (
        f"{limit.what} for {still_s:.0f} s ({limit.setting}); "
        f"rank {rank.rank} ({rank.role}-{rank.index}) is late, "
        f"{done}: {_why(rank)}; the stacks of all ranks are in the log"
    )
    return transitions.Loss(REASON, sentence, role=rank.role, rank=rank.rank)


def _why(rank: tables.RankRow) -> str:
    if rank.witness == "stopped":
        return "its process is stopped (state T)"
    if rank.witness == "silent":
        return f"it gave no stack ({rank.place})" if rank.place else "it gave no stack"
    if rank.witness == "stack":
        return f"it is in {rank.place}" if rank.place else "its stack names no place"
    return "its agent did not answer when stacks were asked for"
