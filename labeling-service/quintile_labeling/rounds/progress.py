"""The counts of a job at this moment, for ``core.cycle``; made fresh inside each transaction."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import cycle, facts, labeling_job
from quintile_labeling import tables


def measure(
    session: orm.Session, job: tables.Job, spec: labeling_job.LabelingJobSpec
) -> cycle.Progress:
    """Return the progress of a job.

    In lockstep a round also waits for all of R and for every lease that is out: what enters it
    then depends on the answers alone, not on who was how fast.
    """
    session.flush()
    found = rounds(session, job)
    lockstep = spec.strategy.lookahead == 0
    left = job.batch_left
    if lockstep:
        left += job.random_size - job.random_settled
    settled = job.random_settled + job.chosen_settled + job.others_settled
    return cycle.Progress(
        limits=limits(job),
        rounds=tuple(found),
        random_settled=job.random_settled,
        chosen_settled=job.chosen_settled,
        decisions=job.spent,
        batch_left=left,
        leased=leased(session, job) if lockstep else 0,
        selectable=job.items - job.random_size - (job.chosen_settled + job.others_settled),
        uncovered_left=max(0, job.items - job.auto - settled),
        exported=job.output_version is not None,
        stop=job.stop,
    )


def state(session: orm.Session, job: tables.Job) -> cycle.JobState:
    """Return the state of a job as ``facts.JobFacts`` words it."""
    stages: dict[str, cycle.JobState] = {
        "importing": "importing",
        "covering": "covering",
        "exporting": "exporting",
        "exported": "exported",
    }
    if job.stage in stages:
        return stages[job.stage]
    finalising = sa.select(tables.Round.number).where(
        tables.Round.job_id == job.id,
        tables.Round.step == "finalise",
        tables.Round.state == "closed",
    )
    return "labeling" if session.scalar(finalising) is None else "finalising"


def limits(job: tables.Job) -> cycle.Limits:
    """Return the budget of a job in items."""
    return cycle.Limits(
        decisions=job.decision_limit,
        random=job.random_size,
        chosen=job.chosen_limit,
        batch=job.batch,
    )


def rounds(session: orm.Session, job: tables.Job) -> list[facts.RoundFact]:
    """Return all rounds of a job, ascending by number."""
    columns = (
        tables.Round.number,
        tables.Round.step,
        tables.Round.state,
        tables.Round.manifest_key,
        tables.Round.manifest_sha256,
    )
    query = sa.select(*columns).where(tables.Round.job_id == job.id).order_by(tables.Round.number)
    found: list[Any] = list(session.execute(query))
    return [facts.RoundFact(*row) for row in found]


def leased(session: orm.Session, job: tables.Job) -> int:
    """Return how many slots of a job are leased now."""
    query = sa.select(sa.func.count()).where(
        tables.Slot.job_id == job.id, tables.Slot.state == "leased"
    )
    return session.scalar(query) or 0
