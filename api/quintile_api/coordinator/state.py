"""Reading and swapping the coordinator's rows inside a transaction. Nothing here commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import errors, messages
from quintile_api.coordinator import fencing, plans, verdicts
from quintile_api.runs import checkpoints, tables

TERMINAL = frozenset({"succeeded", "failed", "stopped"})


def run_of(session: orm.Session, uid: str, *, lock: bool = False) -> tables.TrialRun | None:
    """Return the run row of a trial; ``lock`` keeps other writers of the trial out."""
    query = sa.select(tables.TrialRun).where(tables.TrialRun.uid == uid)
    return session.scalar(query.with_for_update() if lock else query)


def newest(session: orm.Session, uid: str, attempt: int) -> tables.Generation | None:
    """Return the newest generation of an attempt."""
    query = (
        sa.select(tables.Generation)
        .where(tables.Generation.trial_uid == uid, tables.Generation.attempt == attempt)
        .order_by(tables.Generation.generation.desc())
        .limit(1)
    )
    return session.scalar(query)


def current(session: orm.Session, run: tables.TrialRun) -> tables.Generation:
    """Return the newest generation of the newest attempt of a run that has begun."""
    row = newest(session, run.uid, run.attempt)
    if row is None:
        raise errors.NotFound(f"Attempt {run.attempt} of trial {run.name} has no generation.")
    return row


def swap(
    session: orm.Session, row: tables.Generation, state: messages.GenerationState, **also: Any
) -> bool:
    """Move a generation from the state it was read in; False when another was first."""
    before = row.state
    changed = session.execute(
        sa.update(tables.Generation)
        .where(
            tables.Generation.trial_uid == row.trial_uid,
            tables.Generation.attempt == row.attempt,
            tables.Generation.generation == row.generation,
            tables.Generation.state == before,
        )
        .values(state=state, **also)
    )
    session.refresh(row)
    return bool(changed.rowcount == 1)  # type: ignore[attr-defined]


def agents(session: orm.Session, uid: str, attempt: int) -> Sequence[tables.AgentRow]:
    """Return the agents of an attempt in order of (role, index)."""
    query = sa.select(tables.AgentRow).where(
        tables.AgentRow.trial_uid == uid, tables.AgentRow.attempt == attempt
    )
    return session.scalars(query.order_by(tables.AgentRow.role, tables.AgentRow.index)).all()


def joined(session: orm.Session, row: tables.Generation) -> tuple[plans.JoinedAgent, ...]:
    """Return the agents that are ready for a generation, and were not asked to leave."""
    return tuple(
        plans.JoinedAgent(
            role=agent.role, index=agent.index, procs=agent.procs, host=agent.host, port=agent.port
        )
        for agent in agents(session, row.trial_uid, row.attempt)
        if agent.generation == row.generation and not agent.leaving
    )


def ranks(session: orm.Session, row: tables.Generation) -> Sequence[tables.RankRow]:
    """Return the ranks of a generation in order."""
    query = sa.select(tables.RankRow).where(
        tables.RankRow.trial_uid == row.trial_uid,
        tables.RankRow.attempt == row.attempt,
        tables.RankRow.generation == row.generation,
    )
    return session.scalars(query.order_by(tables.RankRow.rank)).all()


def has_started(session: orm.Session, row: tables.Generation) -> bool:
    """Return whether any rank of the attempt ever finished a step."""
    query = sa.select(tables.RankRow.rank).where(
        tables.RankRow.trial_uid == row.trial_uid,
        tables.RankRow.attempt == row.attempt,
        tables.RankRow.step >= 0,
    )
    return session.scalars(query.limit(1)).first() is not None


def situation(
    session: orm.Session, run: tables.TrialRun, row: tables.Generation
) -> verdicts.Situation:
    """Return what the verdict on a generation depends on."""
    known = tuple(
        verdicts.RankEnd(
            rank=rank.rank,
            role=rank.role,
            exit_code=rank.exit_code,
            reason=rank.reason,
            step=rank.step,
            total_steps=rank.total_steps,
            action=rank.action,
        )
        for rank in ranks(session, row)
    )
    total = max((rank.total_steps for rank in known), default=0)
    saved = checkpoints.newest(session, row.trial_uid)
    return verdicts.Situation(
        ranks=known,
        stopping=run.stop_s is not None,
        started=has_started(session, row),
        restarts=row.restarts,
        max_restarts=row.max_restarts,
        final_checkpoint=total > 0 and saved is not None and saved.step >= total,
        least=row.least,
        staying=len(joined(session, row)),
        draining=row.state == "draining",
    )


def plan_of(row: tables.Generation) -> messages.GenerationPlan | None:
    """Return the stored plan of a generation; None while it forms."""
    return messages.GenerationPlan.model_validate(row.plan) if row.plan is not None else None


def behind(
    run: tables.TrialRun | None, row: tables.Generation | None, envelope: messages.Envelope
) -> fencing.Stale | None:
    """Return the refusal of a message that is not of the newest attempt and generation."""
    if run is None or row is None or envelope.attempt > run.attempt:
        return fencing.Stale(
            f"Attempt {envelope.attempt} has not begun here.",
            directive="regenerate",
            state="forming",
            attempt=envelope.attempt,
            generation=0,
        )
    if envelope.attempt < run.attempt:
        return fencing.Stale(
            f"Attempt {envelope.attempt} of trial {run.name} is over; attempt {run.attempt} runs.",
            directive="fenced",
            state=word(row),
            attempt=run.attempt,
            generation=row.generation,
        )
    if envelope.generation != row.generation:
        return fencing.Stale(
            f"Generation {envelope.generation} of trial {run.name} is not the newest: "
            f"{row.generation} is {row.state}.",
            directive="regenerate",
            state=word(row),
            attempt=run.attempt,
            generation=row.generation,
            plan=plan_of(row),
        )
    return None


def word(row: tables.Generation) -> messages.GenerationState:
    """Return the state of a generation."""
    state: messages.GenerationState = row.state  # type: ignore[assignment]
    return state


def speaker(
    session: orm.Session, uid: str, envelope: messages.Envelope, *, lock: bool = False
) -> tables.TrialRun:
    """Return the run of a message of the newest attempt, whatever its generation.

    Raises:
        Stale: The attempt is over or has not begun, or the generation is not known.
    """
    run = run_of(session, uid, lock=lock)
    row = newest(session, uid, run.attempt) if run is not None else None
    stale = behind(run, row, envelope)
    if run is None or row is None or (stale is not None and not earlier(run, row, envelope)):
        raise stale or errors.NotFound(f"No agent of trial {uid} has joined.")
    return run


def is_rescue(run: tables.TrialRun, row: tables.Generation, envelope: messages.Envelope) -> bool:
    """Return whether a checkpoint of the generation before may still be committed.

    While the newest generation forms, none of its ranks has begun: what the one before left on its
    disks is the state to go on from. Agents ship it before they join.
    """
    before = envelope.attempt == run.attempt and envelope.generation == row.generation - 1
    return before and row.state == "forming"


def earlier(run: tables.TrialRun, row: tables.Generation, envelope: messages.Envelope) -> bool:
    """Return whether a message is of an earlier generation of the newest attempt."""
    return envelope.attempt == run.attempt and 0 < envelope.generation < row.generation
