"""Why there is no task right now, as the words of ``tasks.TaskBatch``."""

from __future__ import annotations

from typing import Final

from quintile_labeling.desk import Desk
from quintile_labeling.queue import candidates
from quintile_labeling.rounds import progress

PASSING: Final = frozenset(
    {"Importing", "RoundRunning", "OthersWork", "HeldByYou", "SecondOpinion"}
)
"""Words that may change by themselves within seconds, so that waiting makes sense."""

_STAGES: Final = {"exporting": "Exporting", "exported": "Finished"}


def blocked(desk: Desk, *, held: int, limit: int) -> str:
    """Return why this client gets no task whatever is open; empty if nothing forbids it."""
    if desk.job.stage in _STAGES:
        return _STAGES[desk.job.stage]
    if desk.spec.suspend:
        return "Suspended"
    if desk.job.spent >= desk.job.decision_limit:
        return "BudgetSpent"
    return "LeaseLimit" if held >= limit else ""


def word(desk: Desk, *, all_held: int, own: int) -> str:
    """Return why no open slot suits this person, who holds ``own`` of ``all_held`` leases."""
    if desk.job.stage == "importing":
        return "Importing"
    if candidates.any_open(desk.session, desk.job):
        return "SecondOpinion"
    return taken(all_held=all_held, own=own) if all_held else "RoundRunning"


def taken(*, all_held: int, own: int) -> str:
    """Return who has what is left."""
    return "HeldByYou" if all_held == own else "OthersWork"


def state(desk: Desk) -> str:
    """Return the state of the job, as ``facts.JobFacts`` words it."""
    return progress.state(desk.session, desk.job)
