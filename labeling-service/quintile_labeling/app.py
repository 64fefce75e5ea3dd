"""The application: ports in, FastAPI out. Called by composition roots and tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import fastapi

from quintile import ports
from quintile.adapters import http_guard, outbox, problem_json, readiness, sql, tokens_ed25519
from quintile_labeling import background, context, health, migrations, tables
from quintile_labeling import catalog as catalogs
from quintile_labeling.routes import fact_routes, internal, jobs, views
from quintile_labeling.routes import tasks as task_routes

PREFIX: Final = "/api/v1"
TITLE: Final = "Quintile labeling"
VERSION: Final = "1"
LEASE_S: Final = 600.0
ROUND_BODY_BYTES: Final = 512 * 1024 * 1024
"""Fits the list of items that a certificate over ten million of them accepts."""


@dataclass(frozen=True)
class LabelingDependencies:
    """What a composition root gives to the labeling service.

    Attributes:
        engine_url: ``sqlite:///PATH`` or ``postgresql+psycopg2://...``.
        objects: Where manifests and outputs of rounds live; its URLs are for workers.
        resources: Where desired state lives.
        catalog: Dataset versions.
        identities: Who holds which credentials; asked at most every five seconds for each.
        clock: The time.
        verifier: Checks trial tokens.
        service_token: Secret of sibling services; empty = there are none.
        lease_s: How long a task is held for who took it, in seconds.
        hosts: Allowed ``Host`` values without port.
        origins: Allowed ``Origin`` values beside the service's own.
        pool_size: Connections to the database at most.
        checks: What else must answer before the service is ready, by name.
        body_limits: Larger body limits by path prefix, for routes of mounted parts.
    """

    engine_url: str
    objects: ports.ObjectStore
    resources: ports.ResourceStore
    catalog: catalogs.Catalog
    identities: catalogs.Identities
    clock: ports.Clock
    verifier: tokens_ed25519.TrialTokenVerifier
    service_token: str
    lease_s: float = LEASE_S
    hosts: frozenset[str] = http_guard.Policy.hosts
    origins: frozenset[str] = frozenset()
    pool_size: int = sql.POOL_SIZE
    checks: readiness.Checks = field(default_factory=dict)
    body_limits: Mapping[str, int] = field(default_factory=dict)


def create_app(deps: LabelingDependencies) -> fastapi.FastAPI:
    """Return the labeling service: database migrated, routes in place.

    ``app.state.context`` is the ``context.Context``; ``app.state.background`` the background
    work, which the lifespan starts and stops.
    """
    ctx = make_context(deps)
    app = fastapi.FastAPI(
        title=TITLE,
        version=VERSION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.context = ctx
    app.state.background = background.Background(ctx)
    problem_json.install(app)
    include_routes(app)
    app.include_router(health.router)
    app.add_middleware(http_guard.Guard, policy=policy(deps))
    return app


def make_context(deps: LabelingDependencies) -> context.Context:
    """Open and migrate the database and put the shared parts together."""
    database = sql.Database(sql.create_engine(deps.engine_url, pool_size=deps.pool_size))
    migrations.migrate(database.engine)
    return context.Context(
        database=database,
        outbox=outbox.Outbox(database, tables.OUTBOX),
        objects=deps.objects,
        resources=deps.resources,
        catalog=deps.catalog,
        identities=catalogs.CachedIdentities(deps.identities, deps.clock),
        clock=deps.clock,
        verifier=deps.verifier,
        service_token=deps.service_token,
        lease_s=deps.lease_s,
        checks={"The database": database.ping, **deps.checks},
    )


def policy(deps: LabelingDependencies) -> http_guard.Policy:
    """Return what the guard lets through."""
    return http_guard.Policy(
        hosts=deps.hosts,
        origins=deps.origins,
        body_limits={f"{PREFIX}/internal/labeling/": ROUND_BODY_BYTES, **deps.body_limits},
    )


def include_routes(app: fastapi.FastAPI) -> None:
    """Add every route of the service to an application; also used to write an OpenAPI file."""
    for router in (
        jobs.router,
        task_routes.router,
        views.router,
        internal.router,
        fact_routes.router,
    ):
        app.include_router(router, prefix=PREFIX)


@asynccontextmanager
async def _lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
    app.state.background.start()
    yield
    app.state.background.stop()
    app.state.context.database.dispose()
