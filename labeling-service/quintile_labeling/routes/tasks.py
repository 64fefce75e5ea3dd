"""Routes of people who answer: next tasks, leases, answers, undo."""

from __future__ import annotations

import time
from typing import Annotated, Final

import fastapi
from fastapi import concurrency

from quintile.core import tasks
from quintile_labeling import access, context, desk
from quintile_labeling.answers import saving
from quintile_labeling.queue import leasing, waiting

LOOK_S: Final = 1.0
"""How long a waiting request sleeps at most: leases that run out ring no bell."""

router = fastapi.APIRouter(prefix="/projects/{project}/labeling-jobs/{job}", tags=["tasks"])
WaitS = Annotated[float, fastapi.Query(ge=0, le=30)]


@router.post("/tasks/next")
async def next_tasks(
    ctx: context.Current,
    seat: access.Seat,
    body: tasks.NextRequest,
    request: fastapi.Request,
    wait_s: WaitS = 0.0,
) -> tasks.TaskBatch:
    """Lease tasks; with ``wait_s``, wait until there is one, holding neither thread nor row."""
    deadline = time.monotonic() + wait_s
    while True:
        seen, job_id, batch = await concurrency.run_in_threadpool(_take, ctx, seat, body)
        left = deadline - time.monotonic()
        if batch.tasks or batch.waiting not in waiting.PASSING or left <= 0:
            return batch
        body = body.model_copy(update={"fresh": False})
        await ctx.bells.of(job_id).wait_async(seen, timeout_s=min(left, LOOK_S))
        if await request.is_disconnected():
            return batch


@router.post("/tasks/leases")
def renew(ctx: context.Current, seat: access.Seat, body: tasks.LeaseRenewal) -> tasks.LeaseAnswer:
    """Extend leases that are still held, give others back."""
    with desk.open_at(ctx, seat) as at:
        return leasing.renew(at, body)


@router.post("/annotations")
def annotate(
    ctx: context.Current, seat: access.Seat, body: tasks.AnswerBatch
) -> tasks.AnswerResults:
    """Store answers; each is acknowledged on its own, all are durable when this returns."""
    return saving.save(ctx, seat, body)


@router.post("/annotations/undo")
def undo(ctx: context.Current, seat: access.Seat, body: tasks.UndoRequest) -> tasks.AnswerResult:
    """Take back the caller's newest answer on an item."""
    return saving.undo(ctx, seat, body)


def _take(
    ctx: context.Context, seat: desk.Place, body: tasks.NextRequest
) -> tuple[int, int, tasks.TaskBatch]:
    """Return the version of the job's bell before the look, the job's number, and the tasks."""
    with desk.open_at(ctx, seat) as at:
        seen = ctx.bells.of(at.job.id).version
        return seen, at.job.id, leasing.take(at, body)
