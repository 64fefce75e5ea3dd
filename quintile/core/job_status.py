"""The status of a labeling job: conditions, phase, figures, events. Pure.

Called by ``core.cycle`` only.
"""

from __future__ import annotations

from collections.abc import Mapping

from quintile.core import (
    conditions,
    decision,
    experiment,
    facts,
    labeling_job,
    meta,
    reporting,
    rounds,
    runplan,
)

RANKING = {"Succeeded": "Succeeded", "Failed": "Failed", "Suspended": "Suspended"}
TERMINAL = ("Succeeded", "Failed")
EXPERIMENT_LIMIT = 200


def is_terminal(status: labeling_job.LabelingJobStatus) -> bool:
    """Return whether the status is final for good."""
    return any(conditions.is_true(status.conditions, kind) for kind in TERMINAL)


def round_conditions(
    job: labeling_job.LabelingJob,
    known: facts.JobFacts,
    experiments: Mapping[str, meta.Document],
) -> list[meta.Condition]:
    """Return FeaturesReady, RoundRunning and RoundFailed."""
    embedded = any(fact.step == "embed" and fact.state == "ingested" for fact in known.rounds)
    reason = "Embedded" if embedded else "NotYet"
    changes = [conditions.condition("FeaturesReady", _word(embedded), reason=reason)]
    running = next((fact for fact in known.rounds if fact.state == "closed"), None)
    if running is None:
        changes.append(conditions.condition("RoundRunning", "False", reason="Collecting"))
        changes.append(conditions.condition("RoundFailed", "False", reason="NoRound"))
        return changes
    words = {"embed": "Embedding", "learn": "Learning", "finalise": "Finalising"}
    message = f"round {running.number} is being computed"
    changes.append(
        conditions.condition("RoundRunning", "True", reason=words[running.step], message=message)
    )
    changes.append(_failed_round(job, running, experiments))
    return changes


def outcome_conditions(
    job: labeling_job.LabelingJob, known: facts.JobFacts
) -> list[meta.Condition]:
    """Return Progressing, Certified, Suspended and, at the end, Succeeded."""
    finished = known.state == "exported"
    changes: list[meta.Condition] = []
    # The reason of Progressing is the word of the phase, also while a problem holds the job up.
    going = not finished and not known.problem
    changes.append(
        conditions.condition(
            "Progressing", _word(going), reason=known.state.capitalize(), message=known.problem
        )
    )
    if known.outcome:
        certified = known.outcome in ("Certified", "CertifiedPartial")
        changes.append(conditions.condition("Certified", _word(certified), reason=known.outcome))
    if job.spec.suspend and not finished:
        changes.append(conditions.condition("Suspended", "True", reason="Requested"))
    elif conditions.is_true(_before(job).conditions, "Suspended"):
        changes.append(conditions.condition("Suspended", "False", reason="Resumed"))
    if finished:
        message = f"dataset {job.spec.dataset.name} version {known.output_version} is there"
        changes.append(
            conditions.condition("Succeeded", "True", reason="Exported", message=message)
        )
    return changes


def figures(job: labeling_job.LabelingJob, known: facts.JobFacts) -> dict[str, object]:
    """Return the status fields that count items and rounds."""
    fraction = f"{known.human / known.items:.4f}" if known.items else None
    ran = [fact.number for fact in known.rounds if fact.state != "collecting"]
    return {
        "round": max((fact.number for fact in known.rounds), default=0),
        "counts": labeling_job.Counts(
            items=known.items,
            human=known.human,
            auto=known.auto,
            unlabeled=max(0, known.items - known.human - known.auto),
            decisions=known.decisions,
        ),
        "human_fraction": fraction,
        "coverage": _decimal(known.coverage),
        "certified_error": _decimal(known.certified_error),
        "labels_left": known.labels_left,
        "random_commitment": known.random_commitment,
        "output_version": known.output_version,
        "experiments": [rounds.name(job, number) for number in ran][-EXPERIMENT_LIMIT:],
    }


def decide(
    job: labeling_job.LabelingJob,
    changes: list[meta.Condition],
    *,
    now_s: float,
    fields: dict[str, object] | None = None,
    actions: tuple[decision.Action, ...] = (),
    wake_s: float | None = None,
) -> decision.Decision[labeling_job.LabelingJobStatus]:
    """Return the decision: changes merged into the stored status, phase derived."""
    before = _before(job)
    generation = job.metadata.generation
    stamped = [entry.model_copy(update={"observed_generation": generation}) for entry in changes]
    merged = conditions.merge(before.conditions, stamped, now_s=now_s)
    phase, cause = _phase(merged)
    update: dict[str, object] = {
        **(fields or {}),
        "conditions": merged,
        "observed_generation": generation,
        "phase": phase,
        "reason": cause.reason if cause is not None else "",
        "message": cause.message if cause is not None else "",
        "start_time": before.start_time or conditions.timestamp(now_s),
        "completion_time": conditions.timestamp(now_s) if phase in TERMINAL else "",
    }
    after = before.model_copy(update=update)
    quiet = {"counts": None, "human_fraction": None, "labels_left": None}
    calm = after.model_copy(update=quiet) == before.model_copy(update=quiet)
    return decision.Decision(
        status=after,
        actions=actions,
        events=_events(job, before, after),
        wake_s=wake_s,
        within_s=decision.PROGRESS_S if calm else decision.AT_ONCE,
    )


def _before(job: labeling_job.LabelingJob) -> labeling_job.LabelingJobStatus:
    return job.status or labeling_job.LabelingJobStatus()


def _word(truth: bool) -> conditions.Status:
    return "True" if truth else "False"


def _decimal(value: float | None) -> str | None:
    return None if value is None else f"{value:.6f}"


def _phase(merged: list[meta.Condition]) -> tuple[str, meta.Condition | None]:
    phase, cause = conditions.phase(merged, RANKING, default="")
    if phase:
        return phase, cause
    accepted = conditions.find(merged, "Accepted")
    refused = accepted if accepted is not None and accepted.status == "False" else None
    failed = conditions.find(merged, "RoundFailed")
    progressing = conditions.find(merged, "Progressing")
    away = reporting.problem(merged)
    if progressing is None or accepted is None:
        return "Pending", refused or away
    if refused is not None:
        return progressing.reason, refused
    if failed is not None and failed.status == "True":
        return progressing.reason, failed
    return progressing.reason, away or progressing


def _failed_round(
    job: labeling_job.LabelingJob,
    running: facts.RoundFact,
    experiments: Mapping[str, meta.Document],
) -> meta.Condition:
    name = rounds.name(job, running.number)
    document = experiments.get(name)
    status = None
    if document is not None:
        status = experiment.Experiment.model_validate(document).status
    if status is not None and status.phase in ("Failed", "Stopped"):
        message = (
            f"experiment {name} {status.phase.lower()}: {status.message.rstrip('.')}. "
            "Labels are safe; delete that experiment to compute the round again."
        )
        return conditions.condition(
            "RoundFailed", "True", reason=status.reason or status.phase, message=message
        )
    return conditions.condition("RoundFailed", "False", reason="RoundRunning")


def _events(
    job: labeling_job.LabelingJob,
    before: labeling_job.LabelingJobStatus,
    after: labeling_job.LabelingJobStatus,
) -> tuple[runplan.Event, ...]:
    place = job.metadata
    failed = conditions.is_true(after.conditions, "RoundFailed")
    newly_failed = failed and not conditions.is_true(before.conditions, "RoundFailed")
    if before.phase == after.phase and not newly_failed:
        return ()
    bad = newly_failed or after.phase == "Failed"
    return (
        runplan.Event(
            kind=job.kind,
            namespace=place.namespace,
            name=place.name,
            uid=place.uid,
            type="Warning" if bad else "Normal",
            reason="RoundFailed" if newly_failed else after.phase,
            message=after.message or f"the job is now {after.phase}",
        ),
    )
