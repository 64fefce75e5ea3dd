"""The life of a labeling job as pure functions: what comes next, and which rounds must run.

Two callers. The labeling service calls ``limits`` when a job is admitted and ``next_step`` after
every settle and every ingest, and does what the step says. The reconciler calls ``decide`` for
status and for the round Experiments that must exist. Neither triggers anything from a phase.

Rounds: number 0 is ``embed`` (no labels; R is served meanwhile). Then batches of chosen items are
collected; a full batch closes its round as ``learn``, the last one as ``finalise``. After that
uncovered items are answered by people if the spec says so, then the result is exported.
"""

from __future__ import annotations

import dataclasses
import fractions
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from quintile.core import (
    conditions,
    decision,
    errors,
    experiment,
    facts,
    job_status,
    labeling_job,
    meta,
    reporting,
    rollup,
    rounds,
)

JobDecision = decision.Decision[labeling_job.LabelingJobStatus]
JobState = Literal["importing", "labeling", "finalising", "covering", "exporting", "exported"]
StepKind = Literal["wait", "open", "close", "cover", "export", "done"]


@dataclass(frozen=True)
class Limits:
    """The budget of a job in whole items.

    ``decisions`` bounds all answers of people (R, chosen, overlap, uncovered), ``random`` is the
    size of R, ``chosen`` bounds chosen items, ``batch`` is the size of a round.
    """

    decisions: int
    random: int
    chosen: int
    batch: int


@dataclass(frozen=True)
class Progress:
    """Counts of a job at this moment, from the labeling service's own tables.

    Attributes:
        limits: From ``limits``, fixed at admission (again after a budget change).
        rounds: All rounds, ascending by number.
        random_settled: Items of R that are settled (an answer, or a machine error).
        chosen_settled: Chosen items that are settled, over all rounds.
        decisions: Answers that count against the budget.
        batch_left: Items of the newest round's first batch that are not settled.
        leased: Leases of chosen items that are out now.
        selectable: Items that could still be chosen (pool without R, settled and excluded).
        uncovered_left: Items outside the certificate that nobody answered; read after finalise.
        exported: Whether the output version exists.
        stop: Reason of the engine to stop learning, empty if none.
    """

    limits: Limits
    rounds: tuple[facts.RoundFact, ...] = ()
    random_settled: int = 0
    chosen_settled: int = 0
    decisions: int = 0
    batch_left: int = 0
    leased: int = 0
    selectable: int = 1
    uncovered_left: int = 0
    exported: bool = False
    stop: str = ""


@dataclass(frozen=True)
class Step:
    """What the labeling service does next.

    ``kind``: ``wait`` nothing; ``open`` create round ``number`` in state collecting; ``close``
    write the manifest of round ``number`` with this ``step`` (create the round first if there is
    none) and set it closed; ``cover`` serve uncovered items to people; ``export`` create the
    output version; ``done`` nothing, for good. ``reason`` is a CamelCase word, ``message`` a
    sentence for people.
    """

    kind: StepKind
    number: int = -1
    step: facts.RoundStep | None = None
    reason: str = ""
    message: str = ""


def limits(spec: labeling_job.LabelingJobSpec, *, items: int, random_items: int) -> Limits:
    """Return the budget of a job in whole items.

    Args:
        spec: The job.
        items: Items in the pool.
        random_items: Size of R, as the engine or ``target.random`` says.

    Raises:
        InvalidSpec: The budget cannot even pay for R.
    """
    decisions = labeling_job.count_of(spec.budget.max_human_labels, items)
    overlap = fractions.Fraction(labeling_job.count_of(spec.review.overlap, items), max(items, 1))
    affordable = math.floor(decisions / (1 + overlap)) - random_items
    if affordable < 0:
        needed = math.ceil(random_items * (1 + overlap))
        raise errors.InvalidSpec(
            f"budget.maxHumanLabels {spec.budget.max_human_labels} of {items} items is "
            f"{decisions} answers, but the random items of the certificate alone take {needed}.",
            hint=f"Raise spec.budget.maxHumanLabels to {needed} or more, or spec.target.error.",
            field="spec.budget.maxHumanLabels",
        )
    chosen = min(affordable, items - random_items)
    if spec.budget.max_chosen is not None:
        chosen = min(chosen, labeling_job.count_of(spec.budget.max_chosen, items))
    batch = max(1, labeling_job.count_of(spec.strategy.batch, items))
    return Limits(decisions=decisions, random=random_items, chosen=chosen, batch=batch)


def batch_size(progress: Progress) -> int:
    """Return how many chosen items the first batch of a round that opens now shall hold."""
    left = progress.limits.chosen - progress.chosen_settled
    return max(0, min(progress.limits.batch, left, progress.selectable))


def stop_reason(
    spec: labeling_job.LabelingJobSpec, progress: Progress, *, batches: int
) -> tuple[str, str]:
    """Return why no further batch is asked for, as (reason, message); ("", "") to go on.

    ``batches`` is the number of batches that are fully settled.
    """
    bounds = progress.limits
    if progress.decisions >= bounds.decisions:
        return "BudgetSpent", f"all {bounds.decisions} answers of the budget are given"
    # A job that says how many chosen items it wants is asked for that many.
    if progress.stop and spec.budget.max_chosen is None:
        return progress.stop, f"the engine stopped learning: {progress.stop}"
    if progress.chosen_settled >= bounds.chosen:
        return "ChosenBudgetSpent", f"all {bounds.chosen} chosen items are settled"
    if batches >= spec.budget.max_rounds:
        return "MaxRoundsReached", f"{batches} of {spec.budget.max_rounds} rounds are done"
    if progress.selectable <= 0:
        return "PoolExhausted", "no item is left to choose"
    return "", ""


def next_step(spec: labeling_job.LabelingJobSpec, progress: Progress) -> Step:
    """Return what the labeling service does next. Pure; equal inputs give an equal step."""
    if not progress.rounds:
        return Step("close", 0, "embed", "Admitted", "round 0 computes features")
    newest = progress.rounds[-1]
    if newest.state == "closed":
        message = f"round {newest.number} ({newest.step}) is being computed"
        return Step("wait", newest.number, newest.step, "RoundRunning", message)
    if newest.state == "ingested":
        if newest.step == "finalise":
            return _after_finalise(spec, progress)
        return _after_learning(spec, progress, newest)
    return _while_collecting(spec, progress, newest)


def state_of(spec: labeling_job.LabelingJobSpec, progress: Progress) -> JobState:
    """Return the word for ``facts.JobFacts.state``."""
    step = next_step(spec, progress)
    named: dict[str, JobState] = {"cover": "covering", "export": "exporting", "done": "exported"}
    if step.kind in named:
        return named[step.kind]
    if step.step == "finalise":
        return "finalising"
    return "labeling" if progress.rounds else "importing"


def decide(
    job: labeling_job.LabelingJob,
    known: facts.JobFacts | None,
    experiments: Mapping[str, meta.Document],
    *,
    now_s: float,
    refused: errors.InvalidSpec | None = None,
) -> JobDecision:
    """Return status and round Experiments of a labeling job.

    Args:
        job: The job as stored.
        known: What the labeling service knows; None while the job is not admitted.
        experiments: Whatever Experiment documents are stored under the names of its rounds.
        now_s: Seconds since the epoch.
        refused: Why the labeling service goes on with the spec that it took before, if it does.
    """
    before = job.status or labeling_job.LabelingJobStatus()
    if job_status.is_terminal(before):
        return decision.Decision(before, within_s=decision.PROGRESS_S)
    if known is None:
        return job_status.decide(job, [], now_s=now_s)
    taken = rollup.foreign(job.metadata.uid, experiments)
    if taken:
        message = f"an Experiment named {taken} belongs to another owner; delete or rename it"
        entry = conditions.condition("Accepted", "False", reason="NameTaken", message=message)
        return job_status.decide(job, [entry], now_s=now_s, wake_s=rollup.NAME_TAKEN_RETRY_S)
    changes = [_accepted(job, refused)]
    changes += job_status.round_conditions(job, known, experiments)
    changes += job_status.outcome_conditions(job, known)
    changes += reporting.back(job.status.conditions if job.status is not None else ())
    fields = job_status.figures(job, known)
    actions = _rounds_to_run(job, known, experiments)
    return job_status.decide(job, changes, now_s=now_s, fields=fields, actions=actions)


def decide_unheard(
    job: labeling_job.LabelingJob, error: errors.Unavailable, *, now_s: float
) -> JobDecision:
    """Return the status of a job of which nothing can be heard; nothing is done about it."""
    decided = job_status.decide(job, [reporting.away(error)], now_s=now_s)
    # The service has not seen this generation, and must be handed it when it is back.
    seen = job.status.observed_generation if job.status is not None else 0
    status = decided.status.model_copy(update={"observed_generation": seen})
    return dataclasses.replace(decided, status=status)


def refuse(
    job: labeling_job.LabelingJob, error: errors.InvalidSpec, *, now_s: float
) -> JobDecision:
    """Return the final status of a job that the labeling service refused."""
    changes = [
        conditions.condition("Accepted", "False", reason="InvalidSpec", message=str(error)),
        conditions.condition("Failed", "True", reason="InvalidSpec", message=str(error)),
    ]
    return job_status.decide(job, changes, now_s=now_s)


def _accepted(job: labeling_job.LabelingJob, refused: errors.InvalidSpec | None) -> meta.Condition:
    if refused is None:
        before = conditions.find(job.status.conditions if job.status else [], "Accepted")
        # Said once, when this generation was handed over; true until the spec changes again.
        if (
            before is not None
            and before.reason == "InvalidSpec"
            and before.observed_generation == job.metadata.generation
        ):
            return before
        return conditions.condition("Accepted", "True", reason="Admitted")
    message = f"the job goes on with the spec before the last change: {refused}"
    return conditions.condition("Accepted", "False", reason="InvalidSpec", message=message)


def _after_learning(
    spec: labeling_job.LabelingJobSpec, progress: Progress, newest: facts.RoundFact
) -> Step:
    # Round number k held the k-th batch; embed is number 0 and held none.
    reason, message = stop_reason(spec, progress, batches=newest.number)
    number = newest.number + 1
    if reason:
        return _finalise(progress, number, reason=reason, message=message)
    size = batch_size(progress)
    return Step("open", number, "learn", "NextBatch", f"round {number} asks for {size} items")


def _while_collecting(
    spec: labeling_job.LabelingJobSpec, progress: Progress, newest: facts.RoundFact
) -> Step:
    spent = progress.decisions >= progress.limits.decisions
    held = spec.strategy.lookahead == 0 and progress.leased > 0
    if not spent and (progress.batch_left > 0 or held):
        left = progress.batch_left
        return Step("wait", newest.number, "learn", "Collecting", f"{left} items of the batch left")
    reason, message = stop_reason(spec, progress, batches=newest.number)
    if reason:
        return _finalise(progress, newest.number, reason=reason, message=message)
    return Step("close", newest.number, "learn", "BatchSettled", "the batch is settled")


def _finalise(progress: Progress, number: int, *, reason: str, message: str) -> Step:
    # With the budget spent nobody can settle more of R: the certificate takes the settled prefix.
    spent = progress.decisions >= progress.limits.decisions
    left = progress.limits.random - progress.random_settled
    if left > 0 and not spent:
        waiting = f"{message}; {left} random items are still to be answered"
        return Step("wait", number, "learn", "RandomLeft", waiting)
    return Step("close", number, "finalise", reason, message)


def _after_finalise(spec: labeling_job.LabelingJobSpec, progress: Progress) -> Step:
    number = progress.rounds[-1].number
    if progress.exported:
        return Step("done", number, reason="Exported", message="the output version exists")
    left = progress.uncovered_left
    affordable = progress.limits.decisions - progress.decisions
    if spec.finish.uncovered == "people" and left > 0 and affordable > 0:
        message = f"{left} items outside the certificate are asked of people"
        return Step("cover", number, reason="Uncovered", message=message)
    return Step("export", number, reason="Finished", message="the output version is being made")


def _rounds_to_run(
    job: labeling_job.LabelingJob,
    known: facts.JobFacts,
    experiments: Mapping[str, meta.Document],
) -> tuple[decision.Action, ...]:
    actions: list[decision.Action] = []
    for fact in known.rounds:
        if fact.state != "closed":
            continue
        wanted = rounds.render(job, fact)
        document = experiments.get(wanted.metadata.name)
        if document is None or _differs(experiment.Experiment.model_validate(document), wanted):
            actions.append(decision.ApplyChild(wanted.document()))
    return tuple(actions)


def _differs(stored: experiment.Experiment, wanted: experiment.Experiment) -> bool:
    # Only suspend may differ: the manifest of a closed round never changes.
    ended = stored.status is not None and stored.status.phase in experiment.TERMINAL
    return stored.spec != wanted.spec and not ended
