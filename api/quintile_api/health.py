"""Routes without sign-in: version, liveness, readiness."""

from __future__ import annotations

from importlib import metadata

import fastapi

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
    """The database answers too; 503 with Retry-After when not."""
    ctx.database.ping()
    return HealthView()
