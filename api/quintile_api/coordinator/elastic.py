"""Members of an elastic run come and go: who is waited for, and when the ranks leave for that.

A loss is followed by a generation of the survivors once the join window for a replacement is over.
Newcomers sign in for the generation after the one that runs; it drains when the cool-down is over.
Whoever is asked to leave takes all ranks along to a checkpoint, and is no member of what follows.
Called inside the transactions of ``service``; nothing here commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import orm

from quintile import settings
from quintile.core import messages
from quintile_api.coordinator import plans, state, transitions
from quintile_api.runs import tables

RESIZED = "Resized"
YIELDED = 75


@dataclass(frozen=True)
class Pace:
    """Seconds: for a replacement to join, between changes of the size, until one is silent."""

    window_s: float
    cooldown_s: float
    silence_s: float


def pace(given: settings.ApiSettings) -> Pace:
    """Return the pace that the settings give."""
    return Pace(given.elastic_window_s, given.elastic_cooldown_s, given.agent_silence_s)


def is_complete(session: orm.Session, row: tables.Generation, given: Pace, *, now_s: float) -> bool:
    """Return whether a forming generation can begin with those who joined."""
    joined = state.joined(session, row)
    if not row.least:
        return not plans.missing(row.members, joined)
    alive_s = now_s - given.silence_s
    expected = [
        agent
        for agent in state.agents(session, row.trial_uid, row.attempt)
        if 0 < agent.generation < row.generation and not agent.leaving and agent.seen_s >= alive_s
    ]
    if expected or len(joined) < row.least:
        return False
    window_s = given.cooldown_s if row.generation == 1 else given.window_s
    return len(joined) >= sum(row.members.values()) or now_s >= row.created_s + window_s


def is_newcomer(session: orm.Session, row: tables.Generation, message: messages.Join) -> bool:
    """Return whether an agent comes in beside the members of a generation that runs."""
    key = (row.trial_uid, row.attempt, message.role, message.index)
    agent = session.get(tables.AgentRow, key)
    return row.least > 0 and (agent is None or agent.generation != row.generation)


def welcome(
    session: orm.Session, row: tables.Generation, message: messages.Join, *, now_s: float
) -> None:
    """Sign a newcomer in for the generation after the one that runs."""
    transitions.sign_in(session, row, message, now_s=now_s, ahead=1)


def is_due(session: orm.Session, row: tables.Generation, given: Pace, *, now_s: float) -> bool:
    """Return whether the ranks of a running generation are to make room for newcomers.

    Not before each has done a step: what has not begun cannot save anything.
    """
    coming = _coming(session, row, alive_s=now_s - given.silence_s)
    if row.state != "running" or not coming or now_s < row.since_s + given.cooldown_s:
        return False
    ranks = state.ranks(session, row)
    if any(rank.step < 0 or rank.exit_code is not None for rank in ranks):
        return False
    members = len(state.joined(session, row)) + len(coming)
    first_s = min(agent.joined_s for agent in coming)
    return members >= sum(row.members.values()) or now_s >= first_s + given.window_s


def grow(session: orm.Session, row: tables.Generation, given: Pace, *, now_s: float) -> bool:
    """Let the ranks of a running generation leave for newcomers; return whether they do."""
    if not is_due(session, row, given, now_s=now_s):
        return False
    coming = _coming(session, row, alive_s=now_s - given.silence_s)
    names = ", ".join(f"{agent.role}-{agent.index}" for agent in coming)
    return _drain(session, row, f"{names} joined", now_s=now_s)


def leave(
    session: orm.Session, row: tables.Generation, message: messages.Envelope, *, now_s: float
) -> bool:
    """Note that an agent was asked to go; the ranks of all leave with its own.

    Returns whether that is news.
    """
    key = (row.trial_uid, row.attempt, message.role, message.index)
    agent = session.get(tables.AgentRow, key)
    mine = agent is not None and agent.boot_id == message.boot_id
    if not row.least or agent is None or not mine or agent.leaving:
        return False
    agent.leaving = True
    if agent.generation != row.generation:
        agent.generation = 0  # it waited to come in
        return True
    left = max(row.least, row.members.get(message.role, 0) - 1)
    row.members = {**row.members, message.role: left}
    session.flush()
    if row.state == "running":
        _drain(session, row, f"{message.role}-{message.index} leaves", now_s=now_s)
    return True


def depart(
    session: orm.Session,
    run: tables.TrialRun,
    row: tables.Generation,
    message: messages.Heartbeat,
    *,
    now_s: float,
) -> bool:
    """As ``leave``; an agent that has started no rank yet has nothing to wait for."""
    news = leave(session, row, message, now_s=now_s)
    if row.state != "draining" or message.ranks or not give_up_start(session, row, message):
        return news
    transitions.settle(session, run, row, now_s=now_s)
    return True


def give_up_start(session: orm.Session, row: tables.Generation, message: messages.Envelope) -> bool:
    """Let ranks that were never started count as gone; return whether there are any.

    A member that joins again while its generation drains has not heard that it ran; one that leaves
    and tells of no rank has not begun.
    """
    found = False
    for rank in state.ranks(session, row):
        if (rank.role, rank.index) == (message.role, message.index) and rank.exit_code is None:
            rank.state, rank.exit_code, rank.reason = "exited", YIELDED, RESIZED
            found = True
    session.flush()
    return found


def reason(
    before: messages.GenerationPlan | None, plan: messages.GenerationPlan, row: tables.Generation
) -> str:
    """Return why a generation is not the one before: who is gone, who came, and what happened."""
    if before is None or not row.least:
        return row.why
    old, new = _names(before), _names(plan)
    parts = []
    gone = [name for name in old if name not in new]
    come = [name for name in new if name not in old]
    if gone:
        because = f" ({row.why})" if row.failure is not None and row.why else ""
        parts.append(f"without {', '.join(gone)}{because}")
    if come:
        parts.append(f"with {', '.join(come)}")
    return ", ".join(parts)[:256] or row.why


def _drain(session: orm.Session, row: tables.Generation, why: str, *, now_s: float) -> bool:
    return state.swap(session, row, "draining", failure=None, why=why[:256], since_s=now_s)


def _coming(
    session: orm.Session, row: tables.Generation, *, alive_s: float
) -> Sequence[tables.AgentRow]:
    return [
        agent
        for agent in state.agents(session, row.trial_uid, row.attempt)
        if agent.generation == row.generation + 1 and agent.seen_s >= alive_s
    ]


def _names(plan: messages.GenerationPlan) -> list[str]:
    return [f"{agent.role}-{agent.index}" for agent in plan.agents]
