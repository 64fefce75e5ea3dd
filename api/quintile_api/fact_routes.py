"""Routes of the operator: what agents did. ``/internal/facts/...``, for the service token alone."""

from __future__ import annotations

import fastapi

from quintile.adapters import outbox_routes
from quintile.core import fact_messages
from quintile_api import access, context, facts

router = fastapi.APIRouter(
    prefix="/internal/facts", tags=["internal"], dependencies=[fastapi.Depends(access.service)]
)
outbox_routes.add(router)


@router.get("/trials/{uid}")
def trial(ctx: context.Current, uid: str) -> fact_messages.TrialFactsView:
    """What agents reported of a trial."""
    known = facts.TrialFactsReader(ctx.database, ctx.outbox).trial(uid)
    return fact_messages.TrialFactsView(trial=known)
