"""Routes without sign-in: version, liveness, readiness."""

from __future__ import annotations

from importlib import metadata

import fastapi

from quintile.adapters import readiness
from quintile.core.meta import Message
from quintile_api import context

router = fastapi.APIRouter(tags=["health"])
version_router = fastapi.APIRouter(tags=["health"])


class VersionView(Message):
    """Version of the platform and of its REST interface."""

    version: str
    api: str = "v1"


class HealthView(Message):
    """``ok`` when the answer is 200."""

    status: str = "ok"


@version_router.get("/version")
def version() -> VersionView:
    """Return the version."""
    return VersionView(version=metadata.version("quintile"))


@router.get("/healthz")
def alive() -> HealthView:
    """The process answers."""
    return HealthView()


@router.get("/readyz")
def ready(ctx: context.Current) -> HealthView:
    """All that the service needs answers too; 503 that names who is away when not."""
    readiness.check(ctx.checks)
    return HealthView()
