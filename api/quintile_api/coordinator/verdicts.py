"""What the exits of ranks mean for their generation. Pure.

Called by ``service`` inside the transaction that stores an exit or a loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["none", "succeeded", "stopped", "restart", "again", "failed"]
"""``again``: a restart that counts against no limit."""
YIELDED = 75
YIELD_REASONS = frozenset({"Suspended", "Preempted", "Stopped", "Resized"})
USER_ERROR = 1
OWN_FAULT = frozenset({"UserError", "InvalidSpec", "Diverged"})
LASTING = frozenset({"InvalidSpec", "Diverged"})
"""Ends that every repetition meets again: refused input, and a loss that is no number."""
PEER_LOST = "PeerLost"
FAIL, RESTART, UNCOUNTED = "Fail", "Restart", "RestartUncounted"
"""Actions of failure rules."""


@dataclass(frozen=True)
class RankEnd:
    """One rank; ``exit_code`` is None while it runs; ``action`` is what a failure rule says."""

    rank: int
    role: str
    exit_code: int | None
    reason: str
    step: int
    total_steps: int
    action: str = ""


@dataclass(frozen=True)
class Situation:
    """Everything a verdict depends on.

    ``started``: some rank of this attempt ever finished a step. ``stopping``: a person asked to
    stop. ``final_checkpoint``: a checkpoint of the last step is committed. ``restarts`` counts
    generations after the first. Of an elastic run: ``least`` members are enough, ``staying`` are
    not asked to leave, ``draining``: all ranks are to save their state and go.
    """

    ranks: Sequence[RankEnd]
    stopping: bool
    started: bool
    restarts: int
    max_restarts: int
    final_checkpoint: bool = False
    least: int = 0
    staying: int = 0
    draining: bool = False


def judge(now: Situation) -> Outcome:
    """Return what becomes of a running generation."""
    ended = [rank for rank in now.ranks if rank.exit_code is not None]
    workers = [rank for rank in now.ranks if rank.role == "worker"] or list(now.ranks)
    all_ended = len(ended) == len(now.ranks)
    if workers and all(rank.exit_code == 0 for rank in workers):
        unfinished = any(0 <= rank.step < rank.total_steps for rank in workers)
        return "stopped" if now.stopping and unfinished else "succeeded"
    leaving = any(yielded(rank) for rank in ended)
    if now.least and not now.stopping and (now.draining or leaving):
        return _after_draining(now, workers) if all_ended else "none"
    if now.stopping or leaving:
        # Whoever was asked to leave leaves in any order and with any code; no restart for that.
        return "stopped" if all_ended else "none"
    bad = [rank for rank in ended if rank.exit_code != 0]
    if not bad:
        return "none"
    if now.final_checkpoint and any(rank.exit_code == 0 for rank in workers):
        # The work is saved and one worker finished: a crash while leaving is no reason to train.
        return "succeeded" if all_ended else "none"
    return restart_or_fail(now, bad)


def _after_draining(now: Situation, workers: Sequence[RankEnd]) -> Outcome:
    """Return what follows when all ranks of an elastic run have gone to change its size."""
    if now.final_checkpoint and any(rank.exit_code == 0 for rank in workers):
        return "succeeded"
    fine = (0, None)
    bad = [
        rank
        for rank in now.ranks
        if rank.exit_code not in fine and not yielded(rank) and rank.reason != PEER_LOST
    ]
    if bad:
        return restart_or_fail(now, bad)
    return "again" if now.staying >= now.least else "stopped"


def restart_or_fail(now: Situation, bad: Sequence[RankEnd]) -> Outcome:
    """Return whether another generation may follow; ``bad`` are the ranks that ended badly.

    A failure rule about the rank that is the cause goes before everything else.
    """
    cause = culprit(bad)
    action = cause.action if cause is not None else ""
    if action == UNCOUNTED:
        return "again"
    if action == FAIL:
        return "failed"
    if not action and any(
        is_in_vain(rank.exit_code, rank.reason, started=now.started) for rank in bad
    ):
        return "failed"
    return "restart" if now.restarts < now.max_restarts else "failed"


def is_in_vain(exit_code: int | None, reason: str, *, started: bool) -> bool:
    """Return whether another generation would end like this rank.

    Code that failed by itself before any step fails again, whatever exit code it chose.
    """
    return reason in LASTING or (not started and is_own_fault(exit_code, reason))


def is_own_fault(exit_code: int | None, reason: str) -> bool:
    """Return whether the user's code or input failed, and no machine or peer."""
    return exit_code == USER_ERROR or reason in OWN_FAULT


def culprit(bad: Sequence[RankEnd]) -> RankEnd | None:
    """Return the rank to name as the cause: one that failed by itself, not for want of a peer."""
    return min(bad, key=lambda rank: (rank.reason == PEER_LOST, rank.rank), default=None)


def yielded(rank: RankEnd) -> bool:
    """Return whether a rank left because it was asked to."""
    return rank.exit_code == YIELDED or (rank.exit_code != 0 and rank.reason in YIELD_REASONS)
