"""The numbers of a job for people."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import labeling_job, tasks
from quintile_labeling import tables
from quintile_labeling.answers import projection, rules
from quintile_labeling.rounds import progress

_COUNT = sa.func.count()


def view(
    session: orm.Session, job: tables.Job, spec: labeling_job.LabelingJobSpec
) -> tasks.JobStats:
    """Return the counts of a job now."""
    newest = session.scalar(
        sa.select(sa.func.max(tables.Round.number)).where(tables.Round.job_id == job.id)
    )
    settled = job.random_settled + job.chosen_settled + job.others_settled
    return tasks.JobStats(
        items=job.items,
        state=progress.state(session, job),
        round=newest or 0,
        random_items=job.random_size,
        random_settled=job.random_settled,
        human=job.human,
        decisions=job.decisions,
        spent=job.spent,
        budget=job.decision_limit,
        auto=job.auto,
        uncovered=max(0, job.items - job.auto - settled),
        human_fraction=job.human / job.items,
        seconds_p50=_median_seconds(session, job),
        by_author=_by_author(session, job),
        by_class=_by_class(session, job, spec),
        problem=job.problem,
    )


def _by_author(session: orm.Session, job: tables.Job) -> dict[str, int]:
    note = tables.Annotation
    query = (
        sa.select(note.author, _COUNT)
        .where(note.job_id == job.id, note.standing.in_(projection.LIVE))
        .group_by(note.author)
        .order_by(note.author)
    )
    return {row[0]: row[1] for row in session.execute(query)}


def _by_class(
    session: orm.Session, job: tables.Job, spec: labeling_job.LabelingJobSpec
) -> dict[str, int]:
    settled = tables.Settlement
    query = (
        sa.select(settled.class_id, _COUNT)
        .where(
            settled.job_id == job.id,
            settled.rule.in_(rules.SETTLED),
            settled.class_id != rules.NO_CLASS,
        )
        .group_by(settled.class_id)
    )
    counts = {row[0]: row[1] for row in session.execute(query)}
    return {label: counts.get(number, 0) for number, label in enumerate(spec.labels)}


def _median_seconds(session: orm.Session, job: tables.Job) -> float | None:
    """Return the median time of an answer; answers without a time are left out."""
    note = tables.Annotation
    timed = sa.and_(note.job_id == job.id, note.seconds > 0)
    count = session.scalar(sa.select(_COUNT).where(timed)) or 0
    if count == 0:
        return None
    query = sa.select(note.seconds).where(timed).order_by(note.seconds)
    return session.scalar(query.offset((count - 1) // 2).limit(1))
