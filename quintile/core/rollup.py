"""What to do about an Experiment, given its trials. Pure.

Called by ``quintile_operator.reconciler``. The trials of an experiment come from ``core.search``;
its conditions are those of its only trial while there is no search.
"""

from __future__ import annotations

from collections.abc import Mapping

from quintile.core import (
    conditions,
    decision,
    errors,
    experiment,
    failure_hints,
    meta,
    plan,
    reporting,
    runplan,
    search,
    trial_status,
)

ExperimentDecision = decision.Decision[experiment.ExperimentStatus]
COPIED = (
    "QuotaReserved",
    trial_status.PLACED,
    reporting.KIND,
    "Running",
    "Restarting",
    "Resized",
    "Suspended",
    "Checkpointed",
    "Succeeded",
    "Failed",
    "Stopped",
)
NAME_TAKEN_RETRY_S = 30.0


def decide_experiment(
    parent: experiment.Experiment, stored: Mapping[str, meta.Document], *, now_s: float
) -> ExperimentDecision:
    """Return status and actions for one experiment.

    Args:
        parent: The experiment as stored.
        stored: Whatever Trial documents are stored under the names of ``search.trials``.
        now_s: Seconds since the epoch.
    """
    before = parent.status or experiment.ExperimentStatus()
    if trial_status.is_terminal(before):
        return decision.Decision(before, within_s=decision.PROGRESS_S)
    try:
        plan.check(parent.spec)
    except errors.InvalidSpec as error:
        refused = [
            conditions.condition("Accepted", "False", reason="InvalidSpec", message=str(error)),
            conditions.condition("Failed", "True", reason="InvalidSpec", message=str(error)),
        ]
        return _decide(parent, refused, now_s=now_s)
    taken = foreign(parent.metadata.uid, stored)
    if taken:
        message = f"a Trial named {taken} belongs to another owner; delete it or rename this one"
        entry = conditions.condition("Accepted", "False", reason="NameTaken", message=message)
        return _decide(parent, [entry], now_s=now_s, wake_s=NAME_TAKEN_RETRY_S)
    return _with_trials(parent, stored, now_s=now_s)


def hold(
    parent: experiment.Experiment,
    error: errors.InvalidSpec | errors.Blocked,
    *,
    now_s: float,
    wake_s: float,
) -> ExperimentDecision:
    """Return that an experiment waits for somebody to make, or to allow, what it names."""
    before = parent.status or experiment.ExperimentStatus()
    if trial_status.is_terminal(before):
        return decision.Decision(before, within_s=decision.PROGRESS_S)
    reason = error.reason if isinstance(error, errors.Blocked) else "Refused"
    message = failure_hints.stated(error)
    entry = conditions.condition("Accepted", "False", reason=reason, message=message)
    return _decide(parent, [entry], now_s=now_s, wake_s=wake_s)


def controller_uid(document: meta.Document) -> str:
    """Return the uid of the controlling owner of a stored resource, empty when it has none."""
    for owner in document["metadata"].get("ownerReferences", []):
        if owner.get("controller", True):
            return str(owner["uid"])
    return ""


def foreign(uid: str, stored: Mapping[str, meta.Document]) -> str:
    """Return the first name whose resource is controlled by another uid; empty if none."""
    return next((name for name in sorted(stored) if controller_uid(stored[name]) != uid), "")


def _with_trials(
    parent: experiment.Experiment, stored: Mapping[str, meta.Document], *, now_s: float
) -> ExperimentDecision:
    actions: list[decision.Action] = []
    observed: list[experiment.Trial] = []
    for wanted in search.trials(parent):
        document = stored.get(wanted.metadata.name)
        known = experiment.Trial.model_validate(document) if document is not None else None
        if known is not None:
            observed.append(known)
            wanted = _as_submitted(wanted, known)
        if known is None or (
            known.spec != wanted.spec and not trial_status.is_terminal(known.status)
        ):
            actions.append(decision.ApplyChild(wanted.document()))
    changes = [conditions.condition("Accepted", "True", reason="Valid")]
    fields: dict[str, object] = {
        "trials": [trial.metadata.name for trial in search.trials(parent)],
    }
    if observed and observed[0].status is not None:
        status = observed[0].status
        changes += [entry for entry in status.conditions if entry.type in COPIED]
        fields |= {
            "mode": status.mode,
            "workers": status.workers,
            "progress": status.progress,
            "restarts": status.restarts,
            "start_time": status.start_time,
        }
    return _decide(parent, changes, now_s=now_s, fields=fields, actions=tuple(actions))


def _as_submitted(wanted: experiment.Trial, known: experiment.Trial) -> experiment.Trial:
    """Return the wanted trial with what it began with: global batch, default queue and runtime."""
    began = known.spec.template
    template = wanted.spec.template.model_copy(
        update={"queue": began.queue, "runtime": began.runtime}
    )
    fixed = {"batch_workers": known.spec.batch_workers, "template": template}
    return wanted.model_copy(update={"spec": wanted.spec.model_copy(update=fixed)})


def _decide(
    parent: experiment.Experiment,
    changes: list[meta.Condition],
    *,
    now_s: float,
    fields: dict[str, object] | None = None,
    actions: tuple[decision.Action, ...] = (),
    wake_s: float | None = None,
) -> ExperimentDecision:
    before = parent.status or experiment.ExperimentStatus()
    generation = parent.metadata.generation
    stamped = [entry.model_copy(update={"observed_generation": generation}) for entry in changes]
    merged = conditions.merge(before.conditions, stamped, now_s=now_s)
    phase, cause = trial_status.word(merged)
    final = phase in experiment.TERMINAL
    update: dict[str, object] = {
        **(fields or {}),
        "conditions": merged,
        "observed_generation": generation,
        "phase": phase,
        "reason": cause.reason if cause is not None else "",
        "message": cause.message if cause is not None else "",
        "completion_time": conditions.timestamp(now_s) if final else "",
    }
    after = before.model_copy(update=update)
    return decision.Decision(
        status=after,
        actions=actions,
        events=_events(parent, before, phase, after.message, final=final),
        wake_s=wake_s,
        within_s=_within_s(before, after),
    )


def _within_s(before: experiment.ExperimentStatus, after: experiment.ExperimentStatus) -> float:
    """Return how long the write may wait: what is said on the way to the start may come with it."""
    blank: dict[str, object] = {"progress": experiment.Progress()}
    if after.model_copy(update=blank) == before.model_copy(update=blank):
        return decision.PROGRESS_S
    told = [entry for entry in after.conditions if entry.type != "Accepted"]
    known = [entry for entry in before.conditions if entry.type != "Accepted"]
    is_quiet = told == known and (after.phase, after.reason) == (before.phase, before.reason)
    return decision.SOON_S if is_quiet and after.phase == "Pending" else decision.AT_ONCE


def _events(
    parent: experiment.Experiment,
    before: experiment.ExperimentStatus,
    phase: str,
    message: str,
    *,
    final: bool,
) -> tuple[runplan.Event, ...]:
    if not final or before.phase == phase:
        return ()
    place = parent.metadata
    return (
        runplan.Event(
            kind=parent.kind,
            namespace=place.namespace,
            name=place.name,
            uid=place.uid,
            type="Warning" if phase == "Failed" else "Normal",
            reason=phase,
            message=message or phase,
        ),
    )
