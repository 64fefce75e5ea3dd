"""Elastic runs: which replicas an attempt lacks, and what people are told of its size. Pure.

Called by ``core.reconcile``. How members come and go is the coordinator's business; here it is
only seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from quintile.core import experiment, facts, runplan, topology, trial_status, verdict

REPAIR_POLL_S = 2.0
"""How soon to look again at a replica that shall be started again."""
WAITING = ("forming", "draining")


def is_whole(
    template: experiment.ExperimentSpec, replicas: Sequence[runplan.ObservedReplica]
) -> bool:
    """Return whether an attempt has the replicas that it shall have, no fewer and no more."""
    roles = topology.resolve(template.run).roles
    if not template.run.workers.elastic:
        return len(replicas) >= sum(role.replicas for role in roles)
    wanted = {(role.name, index) for role in roles for index in range(role.replicas)}
    seen = {(entry.role, entry.index) for entry in replicas if not verdict.repairable(entry)}
    return wanted == seen


def repairs(
    template: experiment.ExperimentSpec, replicas: Sequence[runplan.ObservedReplica]
) -> bool:
    """Return whether a member of an elastic attempt has to be started again."""
    workers = template.run.workers
    return workers.elastic and any(
        verdict.repairable(entry) and entry.index < workers.replicas for entry in replicas
    )


def size(
    draft: trial_status.Draft,
    before: experiment.TrialStatus,
    known: facts.TrialFacts,
    workers: experiment.Workers,
) -> trial_status.Draft:
    """Return the draft with the number of members, and with what is said when it changed.

    ``Shrunk``: members were lost. ``Resized``: the run has the size that it shall have, or comes
    nearer to it.
    """
    now = known.workers
    if now == 0:
        return draft
    draft = draft.put(workers=now)
    if not workers.elastic or before.workers in (0, now):
        return draft
    shrunk = now < before.workers and now < workers.replicas
    reason = "Shrunk" if shrunk else "Resized"
    why = f": {known.why}" if known.why else ""
    message = f"{before.workers} -> {now} workers{why}"
    draft = draft.mark("Resized", "True", reason=reason, message=message)
    return draft.note("Warning" if shrunk else "Normal", reason, message)


def is_resizing(known: facts.TrialFacts) -> bool:
    """Return whether ranks save their state, or wait, for a generation of another size."""
    return known.state in WAITING and known.failure is None and bool(known.why)
