"""Routes without sign-in: liveness and readiness."""

from __future__ import annotations

import fastapi

from quintile.adapters import readiness
from quintile.core.meta import Message
from quintile_labeling import context

router = fastapi.APIRouter(tags=["health"])


class HealthView(Message):
    """``ok`` when the answer is 200."""

    status: str = "ok"


@router.get("/healthz")
def alive() -> HealthView:
    """The process answers."""
    return HealthView()


@router.get("/readyz")
@router.get("/api/v1/labeling/health")
def ready(ctx: context.Current) -> HealthView:
    """All that the service needs answers too; 503 that names who is away when not."""
    readiness.check(ctx.checks)
    return HealthView()
