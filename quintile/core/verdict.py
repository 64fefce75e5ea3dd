"""What became of the current attempt of a trial: facts plus observed replicas -> one word. Pure.

Called by ``core.reconcile`` only. Replicas are observed *before* the facts are read, so that what
an agent reported before it ended is known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from quintile.core import experiment, facts, runplan

Outcome = Literal["none", "finishing", "succeeded", "failed", "restart", "preempted"]
"""``restart`` counts against maxRestarts, ``preempted`` does not; ``finishing``: all ranks are done
and the agents are still shipping."""

LIVE = ("pending", "running")
FORMING = ("forming", "draining")
MEMBER_WAIT_S = 60.0
START_S = 1800.0
"""How long a start may take where the experiment does not say it; agents know the same number."""

EXIT_REASONS = {
    1: "UserError",
    70: "AgentInternal",
    75: "Preempted",
    76: "Fenced",
    77: "ApiUnreachable",
}
FINAL_EXITS = (0, 1, 76)
PERMANENT = frozenset({"InvalidSpec", "NotFound", "Diverged"})
RULED: dict[str, Outcome] = {
    "Fail": "failed",
    "Restart": "restart",
    "RestartUncounted": "preempted",
}
"""What the actions of failure rules mean for the attempt."""
UNCOUNTED = frozenset({"Preempted", "ApiUnreachable", "ReplicasGone"})


@dataclass(frozen=True)
class Verdict:
    """The word and, for failed, restart and preempted, its cause (without a time)."""

    outcome: Outcome
    failure: experiment.LastFailure | None = None


def live(replicas: Sequence[runplan.ObservedReplica]) -> tuple[runplan.ObservedReplica, ...]:
    """Return the replicas that hold a process or a pod."""
    return tuple(replica for replica in replicas if replica.state in LIVE)


def judge(
    template: experiment.ExperimentSpec,
    known: facts.TrialFacts,
    replicas: Sequence[runplan.ObservedReplica],
    *,
    attempt: int,
    now_s: float,
) -> Verdict:
    """Return what became of an attempt.

    Args:
        template: The spec of the run.
        known: What the agents reported; of another attempt it counts as nothing.
        replicas: Replicas of this attempt only.
        attempt: The attempt in question.
        now_s: Seconds since the epoch.
    """
    spoke = known.attempt == attempt
    state = known.state if spoke else "forming"
    ended_well = bool(replicas) and all(_ended_well(entry) for entry in replicas)
    if state == "succeeded" or (ended_well and state not in ("failed", "stopped")):
        return _success(replicas, known, grace_s=template.checkpoint.grace_seconds, now_s=now_s)
    if state == "failed":
        return Verdict(*_coordinator_failure(template, known))
    replicas = missed(template, replicas)
    for entry in replicas:
        if entry.state == "lost":
            message = entry.message or f"the agent of {entry.name} is gone without an exit record"
            reason = entry.reason or "AgentLost"
            return Verdict("restart", _failure(entry, reason=reason, message=message))
    for entry in replicas:
        if entry.state == "exited" and entry.exit_code != 0:
            return _exited(template, known if spoke else None, entry)
    ended = bool(replicas) and not live(replicas)
    if spoke and state == "stopped" and not known.stop_requested and ended:
        # No person asked for that: an agent was told to make room, and took its peers along.
        message = "the agents were asked to leave; their state is saved"
        cause = experiment.LastFailure(reason="Preempted", message=message)
        return Verdict("preempted", cause)
    if spoke and known.generation > 0 and not replicas:
        message = "all replicas of the attempt are gone and left no exit record"
        cause = experiment.LastFailure(reason="ReplicasGone", message=message)
        return Verdict("preempted", cause)
    hung = hanging(template, known, replicas, attempt=attempt)
    if hung is not None and now_s >= hung.due_s:
        return Verdict("restart", _failure(hung.replica, reason="AgentHung", message=hung.words))
    waited = not spoke or now_s >= known.updated_s + MEMBER_WAIT_S
    return _missing_member(known, replicas) if waited and state in FORMING else Verdict("none")


@dataclass(frozen=True)
class Hanging:
    """The agent that is waited for longest: when patience with it ends, and what is said then."""

    replica: runplan.ObservedReplica
    due_s: float
    words: str


def hanging(
    template: experiment.ExperimentSpec,
    known: facts.TrialFacts,
    replicas: Sequence[runplan.ObservedReplica],
    *,
    attempt: int,
) -> Hanging | None:
    """Return the first agent whose process lives while it is waited for; None for nobody.

    Only before it joins: after that it is known by its heartbeats.
    """
    spoke = known.attempt == attempt
    limit_s = _start_limit_s(template)
    if limit_s <= 0 or (spoke and known.state != "forming"):
        return None
    since_s, joined = (known.updated_s, known.joined) if spoke else (0.0, ())
    waits = [
        (max(since_s, entry.started_s) + limit_s, entry)
        for entry in live(replicas)
        if entry.started_s > 0 and (entry.role, entry.index) not in joined
    ]
    if not waits:
        return None
    due_s, entry = min(waits, key=lambda wait: wait[0])
    words = (
        f"the agent of {entry.name} lives and has not joined for {limit_s:g} s "
        "(telemetry.startTimeoutSeconds)"
    )
    return Hanging(entry, due_s, words)


def patience_s(
    template: experiment.ExperimentSpec,
    known: facts.TrialFacts,
    replicas: Sequence[runplan.ObservedReplica],
    *,
    attempt: int,
    now_s: float,
) -> float | None:
    """Return the seconds until time alone may change the judgement; None if it never does."""
    waits = [MEMBER_WAIT_S for entry in replicas if entry.state == "exited"]
    hung = hanging(template, known, replicas, attempt=attempt)
    if hung is not None:
        waits.append(max(0.0, hung.due_s - now_s))
    return min(waits, default=None)


def _start_limit_s(template: experiment.ExperimentSpec) -> float:
    given = template.telemetry.start_timeout_seconds
    # The compute of a labeling round tells no steps, so it has no limits; its agent has.
    unset = given is None or template.estimator.labeling_round is not None
    return START_S if unset else float(given or 0)


def repairable(replica: runplan.ObservedReplica) -> bool:
    """Return whether a replica of an elastic run has ended and may be started again.

    Not when the user's code failed (1) or a newer attempt fenced it (76): all end like that.
    """
    lost = replica.state == "lost"
    return lost or (replica.state == "exited" and replica.exit_code not in FINAL_EXITS)


def missed(
    template: experiment.ExperimentSpec, replicas: Sequence[runplan.ObservedReplica]
) -> tuple[runplan.ObservedReplica, ...]:
    """Return the replicas whose end matters: of an elastic run those that it needs.

    While enough of them live, who is lost is started again, and who left after a resize is no
    member any more.
    """
    workers = template.run.workers
    if not workers.elastic:
        return tuple(replicas)
    members = [entry for entry in replicas if entry.index < workers.replicas]
    kept = [entry for entry in members if not repairable(entry)]
    return tuple(kept if len(live(kept)) >= workers.least else members)


def rank_failure(rank: facts.RankFact) -> experiment.LastFailure:
    """Return the wire form of a rank's failure (without a time)."""
    return experiment.LastFailure(
        role=rank.role[:256],
        rank=rank.rank,
        exit_code=rank.exit_code,
        reason=rank.reason[:256] or "RankFailed",
        message=rank.first_error[:1024],
    )


def _ended_well(replica: runplan.ObservedReplica) -> bool:
    return replica.state == "exited" and replica.exit_code == 0


def _success(
    replicas: Sequence[runplan.ObservedReplica],
    known: facts.TrialFacts,
    *,
    grace_s: float,
    now_s: float,
) -> Verdict:
    # Agents ship the last logs and artifacts after their ranks ended; give them the grace period.
    if live(replicas) and now_s < known.updated_s + grace_s:
        return Verdict("finishing")
    return Verdict("succeeded")


def _coordinator_failure(
    template: experiment.ExperimentSpec, known: facts.TrialFacts
) -> tuple[Outcome, experiment.LastFailure]:
    if known.failure is None:
        message = f"generation {known.generation} failed and no rank reported why"
        return "restart", experiment.LastFailure(reason="GenerationFailed", message=message)
    failure = rank_failure(known.failure)
    ruled = RULED.get(known.failure.action)
    return ruled or _user_or_restart(template, failure, step=known.failure.step), failure


def _user_or_restart(
    template: experiment.ExperimentSpec, failure: experiment.LastFailure, *, step: int
) -> Outcome:
    if failure.reason in PERMANENT:
        return "failed"
    # A script that cannot start, or that failed through all in-place restarts, fails anywhere.
    hopeless = step < 0 or template.failure.max_in_place_restarts > 0
    return "failed" if failure.reason == "UserError" and hopeless else "restart"


def _exited(
    template: experiment.ExperimentSpec,
    known: facts.TrialFacts | None,
    replica: runplan.ObservedReplica,
) -> Verdict:
    code = replica.exit_code if replica.exit_code is not None else -1
    reason = EXIT_REASONS.get(code) or replica.reason or "AgentExited"
    if code == 1 and replica.reason:
        reason = replica.reason
    message = replica.message or f"the agent of {replica.name} exited with code {code}"
    failure = _failure(replica, reason=reason, message=message)
    if known is not None and known.failure is not None and code == 1:
        failure = rank_failure(known.failure)
        if known.failure.action in RULED:
            return Verdict(RULED[known.failure.action], failure)
    if reason in UNCOUNTED:
        return Verdict("preempted", failure)
    if code == 1:
        step = known.step if known is not None else -1
        return Verdict(_user_or_restart(template, failure, step=step), failure)
    return Verdict("restart", failure)


def _missing_member(
    known: facts.TrialFacts, replicas: Sequence[runplan.ObservedReplica]
) -> Verdict:
    # An agent that ended before it ever spoke is missed at once: it will not speak any more.
    for entry in replicas:
        if _ended_well(entry):
            message = f"{entry.name} has ended but generation {known.generation} needs it"
            return Verdict("restart", _failure(entry, reason="MemberGone", message=message))
    return Verdict("none")


def _failure(
    replica: runplan.ObservedReplica, *, reason: str, message: str
) -> experiment.LastFailure:
    return experiment.LastFailure(
        role=replica.role[:256],
        rank=-1,
        exit_code=replica.exit_code,
        reason=reason[:256],
        message=message[:1024],
    )
