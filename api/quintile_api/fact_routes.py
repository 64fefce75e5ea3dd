"""Routes of the operator: what agents did. ``/internal/facts/...``, for the service token alone."""

from __future__ import annotations

from typing import Annotated

import fastapi

from quintile.core import fact_messages
from quintile_api import access, context, facts

router = fastapi.APIRouter(
    prefix="/internal/facts", tags=["internal"], dependencies=[fastapi.Depends(access.service)]
)
WaitS = Annotated[float, fastapi.Query(ge=0, le=30)]


@router.get("/changes")
async def changes(
    ctx: context.Current, request: fastapi.Request, since: str = "", wait_s: WaitS = 0.0
) -> fact_messages.ChangesView:
    """Keys changed after a cursor ("" = from now on); waits for one up to ``wait_s``."""
    found = await ctx.outbox.follow(since, wait_s=wait_s, gone=request.is_disconnected)
    return fact_messages.view_of(found)


@router.get("/trials/{uid}")
def trial(ctx: context.Current, uid: str) -> fact_messages.TrialFactsView:
    """What agents reported of a trial."""
    known = facts.TrialFactsReader(ctx.database, ctx.outbox).trial(uid)
    return fact_messages.TrialFactsView(trial=known)
