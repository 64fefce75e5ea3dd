"""Changing the coordinator's rows: sign in, store an exit, and what follows from it.

Called by ``service`` inside its transactions; nothing here commits.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import orm

from quintile.core import errors, messages
from quintile_api.coordinator import state, verdicts
from quintile_api.runs import tables

Failure = dict[str, object]


@dataclass(frozen=True)
class Loss:
    """Why a generation ends although no rank did: a word, a sentence, and the rank to name."""

    reason: str
    sentence: str
    role: str = "worker"
    rank: int = -1


def new_run(uid: str, *, namespace: str, name: str, now_s: float) -> tables.TrialRun:
    """Return the row of a trial that no agent has spoken for."""
    return tables.TrialRun(
        uid=uid,
        namespace=namespace,
        name=name,
        attempt=0,
        step=-1,
        total_steps=0,
        metrics={},
        stop_s=None,
        started_s=0.0,
        updated_s=now_s,
    )


def first_generation(uid: str, message: messages.Join, *, now_s: float) -> tables.Generation:
    """Return generation 1 of the attempt that ``message`` begins."""
    return tables.Generation(
        trial_uid=uid,
        attempt=message.attempt,
        generation=1,
        state="forming",
        members=message.members,
        max_restarts=message.max_restarts,
        restarts=0,
        progress_timeout_s=message.progress_timeout_s,
        start_timeout_s=message.start_timeout_s,
        stalled_s=None,
        plan=None,
        failure=None,
        resume_step=None,
        created_s=now_s,
        least=message.least,
        since_s=now_s,
        why="",
    )


def began(session: orm.Session, run: tables.TrialRun, *, now_s: float) -> float:
    """Return since when the time of a run counts, now that another attempt of it begins.

    How long it lay still since it was asked to leave is no time of its own.
    """
    if not run.started_s:
        return now_s
    before = state.newest(session, run.uid, run.attempt)
    asked = before is not None and before.state == "stopped"
    return run.started_s + (now_s - run.updated_s if asked else 0.0)


def is_member(session: orm.Session, row: tables.Generation, message: messages.Envelope) -> bool:
    """Return whether this boot of the agent is in this generation."""
    key = (row.trial_uid, row.attempt, message.role, message.index)
    agent = session.get(tables.AgentRow, key)
    if agent is None or agent.generation != row.generation:
        return False
    return agent.boot_id == message.boot_id


def sign_in(
    session: orm.Session,
    row: tables.Generation,
    message: messages.Join,
    *,
    now_s: float,
    ahead: int = 0,
) -> None:
    """Note that an agent is ready for a forming generation, or for the one ``ahead`` of it."""
    key = (row.trial_uid, row.attempt, message.role, message.index)
    agent = session.get(tables.AgentRow, key)
    if agent is None:
        agent = tables.AgentRow(trial_uid=key[0], attempt=key[1], role=key[2], index=key[3])
        session.add(agent)
    if agent.boot_id != message.boot_id:
        agent.joined_s = now_s
        if row.least:
            # Who is new comes from the newest plan.
            row.members = message.members
    agent.boot_id = message.boot_id
    agent.generation = row.generation + ahead
    agent.leaving = False
    agent.procs = message.procs
    agent.host = message.host
    agent.interface = message.interface
    agent.port = message.port
    agent.seen_s = now_s
    session.flush()


def add_ranks(
    session: orm.Session, row: tables.Generation, plan: messages.GenerationPlan, *, now_s: float
) -> None:
    """Add the ranks of a generation that begins to run."""
    for slot in plan.ranks:
        session.add(
            tables.RankRow(
                trial_uid=row.trial_uid,
                attempt=row.attempt,
                generation=row.generation,
                rank=slot.rank,
                role=slot.role,
                index=slot.index,
                state="starting",
                pid=0,
                step=-1,
                total_steps=0,
                exit_code=None,
                signal=0,
                reason="",
                first_error="",
                action="",
                still_s=0.0,
                witness="",
                place="",
                waits=False,
                updated_s=now_s,
            )
        )
    session.flush()


def store_exit(session: orm.Session, uid: str, message: messages.RankExit, *, now_s: float) -> bool:
    """Store that a rank ended; False when it was stored before.

    Raises:
        InvalidSpec: The generation has no such rank.
    """
    key = (uid, message.attempt, message.generation, message.rank)
    rank = session.get(tables.RankRow, key)
    if rank is None:
        raise errors.InvalidSpec(
            f"Generation {message.generation} has no rank {message.rank}.", field="rank"
        )
    if rank.exit_code is not None:
        return False
    rank.state = "exited"
    rank.exit_code = message.exit_code
    rank.signal = message.signal
    rank.reason = message.reason
    rank.first_error = message.first_error
    rank.action = message.action
    rank.step = max(rank.step, message.step)
    rank.total_steps = max(rank.total_steps, message.total_steps)
    rank.updated_s = now_s
    session.flush()
    return True


def settle(
    session: orm.Session, run: tables.TrialRun, row: tables.Generation, *, now_s: float
) -> None:
    """Carry out what the exits so far mean for a running generation."""
    now = state.situation(session, run, row)
    outcome = verdicts.judge(now)
    bad = [rank for rank in now.ranks if rank.exit_code not in (None, 0)]
    cause = verdicts.culprit(bad)
    if cause is not None and outcome == "again" and not cause.action:
        cause = None  # ranks that left to change the size of the run have not failed
    failure = _failure_of(session, row, cause) if cause is not None else None
    _carry_out(session, run, row, outcome=outcome, failure=failure, now_s=now_s)


def settle_late(session: orm.Session, row: tables.Generation, message: messages.RankExit) -> bool:
    """Learn from an exit of the generation before ``row``; return whether that changed ``row``.

    A rank that lost its peer may have reported first. When the peer's own end arrives, it is the
    cause, and a script that cannot start fails here as it would have then.
    """
    known = row.failure or {}
    just_before = message.generation == row.generation - 1 and row.state == "forming"
    own_fault = verdicts.is_own_fault(message.exit_code, message.reason)
    tells = own_fault or message.action
    if not (just_before and tells and known.get("reason") == verdicts.PEER_LOST):
        return False
    row.failure = {
        **known,
        "rank": message.rank,
        "role": message.role,
        "exit_code": message.exit_code,
        "reason": message.reason,
        "first_error": message.first_error,
        "action": message.action,
    }
    if message.action == verdicts.UNCOUNTED:
        row.restarts -= 1
    session.flush()
    started = state.has_started(session, row)
    vain = verdicts.is_in_vain(message.exit_code, message.reason, started=started)
    if message.action == verdicts.FAIL or (vain and not message.action):
        state.swap(session, row, "failed")
    return True


def agent_loss(row: tables.Generation, role: str, index: int, *, reason: str, what: str) -> Loss:
    """Return the loss of an agent; its first rank stands for it."""
    plan = state.plan_of(row)
    slots = plan.ranks if plan is not None else []
    ranks = [slot.rank for slot in slots if (slot.role, slot.index) == (role, index)]
    sentence = f"the agent {role}-{index} {what}"
    return Loss(reason, sentence, role=role, rank=min(ranks, default=-1))


def step_down(
    session: orm.Session,
    run: tables.TrialRun,
    row: tables.Generation,
    *,
    loss: Loss,
    now_s: float,
) -> None:
    """End a running generation because an agent is gone or a rank stands still."""
    now = state.situation(session, run, row)
    outcome = verdicts.restart_or_fail(now, [])
    if now.stopping or (not row.least and any(verdicts.yielded(rank) for rank in now.ranks)):
        outcome = "stopped"
    failure: Failure = {
        "rank": loss.rank,
        "role": loss.role,
        "state": "lost",
        "exit_code": None,
        "reason": loss.reason,
        "first_error": loss.sentence,
        "step": run.step,
    }
    _carry_out(session, run, row, outcome=outcome, failure=failure, now_s=now_s)


def _carry_out(
    session: orm.Session,
    run: tables.TrialRun,
    row: tables.Generation,
    *,
    outcome: verdicts.Outcome,
    failure: Failure | None,
    now_s: float,
) -> None:
    if outcome in ("restart", "again"):
        why = str(failure["first_error"] or failure["reason"])[:256] if failure else row.why
        if state.swap(session, row, "draining", failure=failure, why=why):
            restarts = row.restarts + (1 if outcome == "restart" else 0)
            session.add(_next_generation(row, restarts=restarts, now_s=now_s))
            for agent in state.agents(session, row.trial_uid, row.attempt):
                agent.generation = 0 if agent.leaving else agent.generation
            session.flush()
    elif outcome == "failed":
        state.swap(session, row, "failed", failure=failure)
    elif outcome in ("succeeded", "stopped"):
        state.swap(session, row, outcome)
        run.step = max([run.step, *(rank.step for rank in state.ranks(session, row))])


def _next_generation(row: tables.Generation, *, restarts: int, now_s: float) -> tables.Generation:
    return tables.Generation(
        trial_uid=row.trial_uid,
        attempt=row.attempt,
        generation=row.generation + 1,
        state="forming",
        members=row.members,
        max_restarts=row.max_restarts,
        restarts=restarts,
        progress_timeout_s=row.progress_timeout_s,
        start_timeout_s=row.start_timeout_s,
        stalled_s=None,
        plan=None,
        failure=row.failure,
        resume_step=None,
        created_s=now_s,
        least=row.least,
        since_s=now_s,
        why=row.why,
    )


def _failure_of(session: orm.Session, row: tables.Generation, end: verdicts.RankEnd) -> Failure:
    key = (row.trial_uid, row.attempt, row.generation, end.rank)
    rank = session.get(tables.RankRow, key)
    return {
        "rank": end.rank,
        "role": end.role,
        "state": "exited",
        "exit_code": end.exit_code,
        "reason": end.reason,
        "first_error": rank.first_error if rank is not None else "",
        "action": end.action,
        "step": end.step,
    }
