"""Routes of the operator: what people did, and new jobs. For the service token alone."""

from __future__ import annotations

from typing import Annotated

import fastapi

from quintile.core import fact_messages
from quintile_labeling import access, context, facts

router = fastapi.APIRouter(
    prefix="/internal/labeling/facts",
    tags=["internal"],
    dependencies=[fastapi.Depends(access.service)],
)
WaitS = Annotated[float, fastapi.Query(ge=0, le=30)]


@router.get("/changes")
async def changes(
    ctx: context.Current, request: fastapi.Request, since: str = "", wait_s: WaitS = 0.0
) -> fact_messages.ChangesView:
    """Keys changed after a cursor ("" = from now on); waits for one up to ``wait_s``."""
    found = await ctx.outbox.follow(since, wait_s=wait_s, gone=request.is_disconnected)
    return fact_messages.view_of(found)


@router.get("/jobs/{uid}")
def job(ctx: context.Current, uid: str) -> fact_messages.JobFactsView:
    """What is known of a job; null while it is not admitted."""
    return fact_messages.JobFactsView(job=facts.JobFactsReader(ctx).job(uid))


@router.post("/admit")
def admit(ctx: context.Current, body: fact_messages.Admission) -> fact_messages.JobFactsView:
    """Take in a LabelingJob as stored. Idempotent by uid and generation."""
    return fact_messages.JobFactsView(job=facts.JobFactsReader(ctx).admit(body.document))
