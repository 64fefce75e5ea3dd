"""The status of a trial: conditions, phase, progress, events. Pure.

Called by ``core.reconcile`` and, for the ranking of phases, by ``core.rollup``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from quintile.core import (
    conditions,
    experiment,
    facts,
    failure_hints,
    meta,
    reporting,
    runplan,
)

RANKING = {
    "Succeeded": "Succeeded",
    "Failed": "Failed",
    "Stopped": "Stopped",
    "Suspended": "Suspended",
    "Restarting": "Restarting",
    "Running": "Running",
}
"""Phase by condition type, most decisive first; used for trials and for experiments."""

TERMINAL_TYPES = ("Succeeded", "Failed", "Stopped")
METRIC_LIMIT = 16
PLACED = "Placed"
"""Condition: whether all pods of the attempt have a node, an image and what they name."""

TIMES = "step/"
"""How the names of metrics begin that say where the time of a step went."""


@dataclass(frozen=True)
class Draft:
    """A status in the making: field updates, condition changes and events by reason."""

    fields: dict[str, object]
    changes: tuple[meta.Condition, ...] = ()
    notes: tuple[tuple[str, str, str], ...] = ()

    def note(self, kind: str, reason: str, message: str) -> Draft:
        """Return the draft with one more event (``Normal`` or ``Warning``)."""
        return replace(self, notes=(*self.notes, (kind, reason, message)))

    def mark(
        self, kind: str, status: conditions.Status, *, reason: str, message: str = ""
    ) -> Draft:
        """Return the draft with one more condition set."""
        entry = conditions.condition(kind, status, reason=reason, message=message)
        return replace(self, changes=(*self.changes, entry))

    def put(self, **fields: object) -> Draft:
        """Return the draft with status fields set."""
        return replace(self, fields={**self.fields, **fields})


def is_terminal(status: experiment.TrialStatus | experiment.ExperimentStatus | None) -> bool:
    """Return whether a status is final for good."""
    if status is None:
        return False
    return any(conditions.is_true(status.conditions, kind) for kind in TERMINAL_TYPES)


def finish(
    before: experiment.TrialStatus, draft: Draft, *, generation: int, now_s: float
) -> experiment.TrialStatus:
    """Return the new status: draft merged into ``before``, phase derived, times set."""
    stamped = tuple(
        entry.model_copy(update={"observed_generation": generation}) for entry in draft.changes
    )
    merged = conditions.merge(before.conditions, stamped, now_s=now_s)
    fields: dict[str, object] = {**draft.fields, "observed_generation": generation}
    after = before.model_copy(update={**fields, "conditions": merged})
    return _with_phase(after, now_s=now_s)


def events(trial: experiment.Trial, draft: Draft) -> tuple[runplan.Event, ...]:
    """Return the events of a draft."""
    place = trial.metadata
    return tuple(
        runplan.Event(
            kind=trial.kind,
            namespace=place.namespace,
            name=place.name,
            uid=place.uid,
            type="Warning" if kind == "Warning" else "Normal",
            reason=reason,
            message=conditions.clip(message),
        )
        for kind, reason, message in draft.notes
    )


def progress(before: experiment.Progress, known: facts.TrialFacts) -> experiment.Progress:
    """Return the progress that the agents reported; unchanged facts give an equal value."""
    if known.step < 0 and not known.metrics:
        return before
    step, total = max(known.step, 0), known.total_steps
    percent = min(100, 100 * step // total) if total > 0 else 0
    return experiment.Progress(
        percent=percent,
        step=step,
        total_steps=total,
        eta_seconds=_eta(known, step=step, total=total),
        metrics=metric_texts(known.metrics),
        updated_time=conditions.timestamp(known.updated_s) if known.updated_s else "",
    )


def metric_texts(values: dict[str, float]) -> list[experiment.Parameter]:
    """Return metrics as decimal text, sorted by name, at most 16, without NaN or infinity.

    Where the time of a step goes (``step/...``) is for curves, not for a status.
    """
    told = {name: value for name, value in values.items() if not name.startswith(TIMES)}
    finite = {name: value for name, value in told.items() if abs(value) != float("inf")}
    known = {name: value for name, value in finite.items() if value == value}
    return [
        experiment.Parameter(name=name[:256], value=f"{known[name]:.6g}")
        for name in sorted(known)[:METRIC_LIMIT]
    ]


def progressing(
    before: Sequence[meta.Condition], known: facts.TrialFacts
) -> tuple[conditions.Status, str, str] | None:
    """Return status, reason and message of Progressing for a generation that runs or forms.

    Who never tells steps is Unknown. After a stall it stays False until a step is finished.
    """
    if any(rank.step >= 0 and rank.role == "worker" for rank in known.ranks):
        return "True", "StepsFinished", ""
    stalled = known.failure is not None and known.failure.reason == "Stalled"
    if stalled and known.failure is not None:
        return "False", "Stalled", known.failure.first_error
    if known.state != "running" or conditions.find(before, "Progressing") is not None:
        return None
    return "Unknown", "NoStepsTold", "no rank has told how many steps are done"


def placed(
    before: Sequence[meta.Condition],
    replicas: Sequence[runplan.ObservedReplica],
    *,
    is_whole: bool,
) -> tuple[conditions.Status, str, str] | None:
    """Return status, reason and message of Placed; None when there is nothing to say.

    Only what once waited for something (a node, an image, a Secret) is told to wait no more, and
    only when no replica is missing.
    """
    waiting = [entry for entry in replicas if entry.state == "pending" and entry.reason]
    if waiting:
        first = waiting[0]
        more = f" (and {len(waiting) - 1} more)" if len(waiting) > 1 else ""
        words = f"{first.name}{more}: {first.message or first.reason}"
        return "False", first.reason, failure_hints.sentence(words, first.reason)
    if conditions.find(before, PLACED) is None or not is_whole:
        return None
    if any(entry.state == "pending" for entry in replicas):
        return None
    return "True", "Placed", ""


def held(
    status: experiment.TrialStatus, *, reason: str, message: str, generation: int, now_s: float
) -> experiment.TrialStatus:
    """Return a status that says why the replicas of an attempt could not be made."""
    draft = Draft(fields={}).mark(PLACED, "False", reason=reason, message=message)
    return finish(status, draft, generation=generation, now_s=now_s)


def checkpoint(
    before: experiment.CheckpointRef | None, known: facts.TrialFacts
) -> experiment.CheckpointRef | None:
    """Return the newest committed checkpoint."""
    if known.checkpoint is None:
        return before
    fact = known.checkpoint
    time = conditions.timestamp(fact.time_s) if fact.time_s else ""
    return experiment.CheckpointRef(key=fact.key, step=fact.step, time=time)


def sample_accounting(
    template: experiment.ExperimentSpec, known: facts.TrialFacts
) -> experiment.SampleAccounting | None:
    """Return whether it is known which samples were learnt; of a script, as its checkpoints say."""
    if template.estimator.labeling_round is not None:
        return None
    place = known.checkpoint is not None and known.checkpoint.has_place
    return "exact" if template.estimator.script is None or place else "unmanaged"


def without_progress(status: experiment.TrialStatus) -> experiment.TrialStatus:
    """Return a status whose progress figures are blank, to see whether more than them changed."""
    return status.model_copy(update={"progress": experiment.Progress(), "checkpoint": None})


def running_generation(entries: Sequence[meta.Condition]) -> str:
    """Return the message of the Running condition, empty when there is none."""
    found = conditions.find(entries, "Running")
    return found.message if found is not None else ""


def word(entries: Sequence[meta.Condition]) -> tuple[str, meta.Condition | None]:
    """Return the phase for people, and the condition that says why (None: nothing does)."""
    name, cause = conditions.phase(entries, RANKING, default="Pending")
    if cause is not None:
        return name, cause
    known = (conditions.find(entries, kind) for kind in ("Accepted", PLACED, reporting.KIND))
    return name, next((entry for entry in known if entry and entry.status == "False"), None)


def _with_phase(status: experiment.TrialStatus, *, now_s: float) -> experiment.TrialStatus:
    name, source = word(status.conditions)
    fields: dict[str, object] = {
        "phase": name,
        "reason": source.reason if source is not None else "",
        "message": source.message if source is not None else "",
    }
    if name in experiment.TERMINAL and not status.completion_time:
        fields["completion_time"] = conditions.timestamp(now_s)
    return status.model_copy(update=fields)


def _eta(known: facts.TrialFacts, *, step: int, total: int) -> int | None:
    elapsed = known.updated_s - known.started_s
    if not known.started_s or step <= 0 or total <= step or elapsed <= 0:
        return None
    return round(elapsed * (total - step) / step)
