"""Routes of the operator: what people did, and new jobs. For the service token alone."""

from __future__ import annotations

import fastapi

from quintile.adapters import outbox_routes
from quintile.core import fact_messages
from quintile_labeling import access, context, facts

router = fastapi.APIRouter(
    prefix="/internal/labeling/facts",
    tags=["internal"],
    dependencies=[fastapi.Depends(access.service)],
)
outbox_routes.add(router)


@router.get("/jobs/{uid}")
def job(ctx: context.Current, uid: str) -> fact_messages.JobFactsView:
    """What is known of a job; null while it is not admitted."""
    return fact_messages.JobFactsView(job=facts.JobFactsReader(ctx).job(uid))


@router.post("/admit")
def admit(ctx: context.Current, body: fact_messages.Admission) -> fact_messages.JobFactsView:
    """Take in a LabelingJob as stored. Idempotent by uid and generation."""
    return fact_messages.JobFactsView(job=facts.JobFactsReader(ctx).admit(body.document))
