"""What follows from a settle or an ingest: the steps of ``core.cycle``, done in its transaction."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import cycle, labeling_job
from quintile_labeling import context, tables
from quintile_labeling.queue import slots
from quintile_labeling.rounds import manifests, progress

STEPS_AT_ONCE: Final = 8
"""Most steps that can follow from one change (close, open, cover, export); a guard, not a limit."""

NOT_COLLECTING: Final = -1


def advance(ctx: context.Context, session: orm.Session, job: tables.Job) -> None:
    """Do every step that is due now. Called inside the transaction of the cause.

    Nothing here touches the object store or the API: manifests and exports follow from the
    committed rows (``background``), so that a crash at any point loses nothing.
    """
    if job.stage not in ("ready", "covering"):
        return
    spec = context.spec_of(job)
    for _ in range(STEPS_AT_ONCE):
        known = progress.measure(session, job, spec)
        step = cycle.next_step(spec, known)
        if step.kind == "open":
            _open(ctx, session, job, spec=spec, known=known, number=step.number)
        elif step.kind == "close":
            _close(ctx, session, job, spec=spec, step=step)
        elif step.kind == "cover" and job.stage == "ready":
            cover(session, job, spec)
            job.stage = "covering"
        elif step.kind == "export":
            job.stage = "exporting"
            return
        else:
            if step.reason == "RandomLeft":
                slots.withdraw_reserve(session, job)
            return


def cover(session: orm.Session, job: tables.Job, spec: labeling_job.LabelingJobSpec) -> None:
    """Ask people for what the certificate leaves open, as far as the budget goes."""
    query = sa.select(tables.Round).where(
        tables.Round.job_id == job.id, tables.Round.step == "finalise"
    )
    order = manifests.ranked(session.scalars(query).one())
    slots.open_uncovered(session, job, spec, order=order, limit=job.decision_limit - job.spent)


def _open(
    ctx: context.Context,
    session: orm.Session,
    job: tables.Job,
    *,
    spec: labeling_job.LabelingJobSpec,
    known: cycle.Progress,
    number: int,
) -> None:
    newest = session.get_one(tables.Round, (job.id, known.rounds[-1].number))
    session.add(_row(job, number, now_s=ctx.clock.now()))
    session.flush()
    size = cycle.batch_size(known)
    # The reserve serves the round after this one; the last round needs none.
    ahead = 0
    if spec.strategy.lookahead and number < spec.budget.max_rounds:
        ahead = max(0, min(job.batch, job.chosen_limit - job.chosen_settled - size))
    job.collecting = number
    job.batch_left = slots.open_batch(
        session, job, spec, number=number, order=manifests.ranked(newest), sizes=(size, ahead)
    )


def _close(
    ctx: context.Context,
    session: orm.Session,
    job: tables.Job,
    *,
    spec: labeling_job.LabelingJobSpec,
    step: cycle.Step,
) -> None:
    assert step.step is not None
    now_s = ctx.clock.now()
    row = session.get(tables.Round, (job.id, step.number))
    if row is None:
        row = _row(job, step.number, now_s=now_s)
        session.add(row)
    row.step, row.state, row.closed_s = step.step, "closed", now_s
    job.collecting, job.batch_left = NOT_COLLECTING, 0
    if step.step == "finalise":
        slots.withdraw_chosen(session, job)
    manifests.freeze(session, job, spec, row)


def _row(job: tables.Job, number: int, *, now_s: float) -> tables.Round:
    return tables.Round(
        job_id=job.id,
        number=number,
        step="learn",
        state="collecting",
        header={},
        prefix=0,
        random_settled=0,
        labels=0,
        manifest_key="",
        manifest_sha256="",
        stored=False,
        opened_s=now_s,
        attempt=0,
        outputs={},
        report={},
        ranked=b"",
    )
