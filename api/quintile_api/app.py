"""The application: ports and keys in, FastAPI out. Called by composition roots and tests."""

from __future__ import annotations

import pathlib
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import fastapi
from fastapi import staticfiles
from starlette import routing, types

from quintile import ports, settings
from quintile.adapters import (
    http_guard,
    outbox,
    problem_json,
    readiness,
    signed_urls,
    sql,
    tokens_ed25519,
)
from quintile_api import (
    audit,
    background,
    context,
    eventlog,
    experiments,
    fact_routes,
    health,
    housekeeping,
    migrations,
    objects,
    tables,
)
from quintile_api.coordinator import fencing, liveness, service
from quintile_api.coordinator import routes as agent_routes
from quintile_api.data import routes as data_routes
from quintile_api.data import service as data_service
from quintile_api.data import uploads
from quintile_api.identity import routes as identity_routes
from quintile_api.identity import sign_in
from quintile_api.runs import logs
from quintile_api.runs import routes as run_routes
from quintile_api.tensorboard import admission, boards
from quintile_api.tensorboard import routes as tensorboard_routes

PREFIX: Final = "/api/v1"
TITLE: Final = "Quintile"
VERSION: Final = "1"
SUMMARY: Final = "Label a fifth, certify the rest, train on all of it."
AGENT_BODY_BYTES: Final = 96 * 1024 * 1024
"""Fits the largest log batch: 5,000 lines of 16 KiB."""

DATASET_BODY_BYTES: Final = 256 * 1024 * 1024
"""Fits a CSV manifest or a table of true labels of 64 MiB, however it is escaped."""

STATIC: Final = pathlib.Path(__file__).parent / "static"


@dataclass(frozen=True)
class ApiDependencies:
    """What a composition root gives to the API.

    Attributes:
        engine_url: ``sqlite:///PATH`` or ``postgresql+psycopg2://...``.
        objects: Where bytes live.
        resources: Where desired state lives.
        events: Events of resources, for reading.
        clock: The time.
        verifier: Checks trial tokens.
        urls: Signs and checks object URLs (same key as the object store's).
        session_key: HMAC key of session cookies, 32 random bytes.
        service_token: Secret of the sibling services; empty = there are none.
        api_url: Base URL at which agents and people reach this API.
        settings: The API's settings.
        admin: Name of the first administrator.
        projects: Names of the projects that exist from the start.
        python: Interpreter of agents, for dry runs.
        pool_size: Connections to the database at most.
        checks: What else must answer before the service is ready, by name.
        body_limits: Larger body limits by path prefix, for routes of mounted parts.
    """

    engine_url: str
    objects: ports.ObjectStore
    resources: ports.ResourceStore
    events: eventlog.EventLog
    clock: ports.Clock
    verifier: tokens_ed25519.TrialTokenVerifier
    urls: signed_urls.UrlSigner
    session_key: bytes
    service_token: str
    api_url: str
    settings: settings.ApiSettings = settings.ApiSettings()
    admin: str = "admin"
    projects: tuple[str, ...] = ("default",)
    python: str = sys.executable
    pool_size: int = sql.POOL_SIZE
    checks: readiness.Checks = field(default_factory=dict)
    body_limits: Mapping[str, int] = field(default_factory=dict)


class Console(routing.Mount):
    """The console's files at every path that is not the API's.

    A plain mount would take API paths with a wrong method too, and name its own methods.
    """

    def matches(self, scope: types.Scope) -> tuple[routing.Match, types.Scope]:
        """Match everything outside of the API."""
        if scope["path"].startswith(f"{PREFIX}/"):
            return routing.Match.NONE, {}
        return super().matches(scope)


def create_app(deps: ApiDependencies) -> fastapi.FastAPI:
    """Return the API: database migrated, first project and admin made, routes in place.

    ``app.state.context`` is the ``context.Context``; ``app.state.data`` the parts behind the data
    routes; ``app.state.background`` the background work, which the lifespan starts and stops.
    """
    ctx = make_context(deps)
    sign_in.seed(ctx.database, ctx.clock, admin=deps.admin, projects=deps.projects)
    app = fastapi.FastAPI(
        title=TITLE,
        version=VERSION,
        summary=SUMMARY,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.context = ctx
    app.state.data = data_service.make_parts(ctx.database, ctx.objects, ctx.clock)
    app.state.tensorboard = _tensorboard(ctx)
    app.state.background = background.Background(
        _ticks(ctx), parts=(app.state.data, app.state.tensorboard.boards)
    )
    problem_json.install(app)
    app.add_exception_handler(fencing.Stale, agent_routes.on_stale)
    include_routes(app)
    if (STATIC / "index.html").is_file():
        files = staticfiles.StaticFiles(directory=STATIC, html=True)
        app.router.routes.append(Console("/", app=files, name="console"))
    app.add_middleware(audit.Auditor, database=ctx.database, clock=ctx.clock)
    app.add_middleware(http_guard.Guard, policy=policy(deps))
    return app


def make_context(deps: ApiDependencies) -> context.Context:
    """Open and migrate the database and put the shared parts together."""
    database = sql.Database(sql.create_engine(deps.engine_url, pool_size=deps.pool_size))
    migrations.migrate(database.engine)
    changes = outbox.Outbox(database, tables.OUTBOX)
    parts = service.Parts(
        database=database,
        outbox=changes,
        objects=deps.objects,
        clock=deps.clock,
        settings=deps.settings,
    )
    return context.Context(
        database=database,
        outbox=changes,
        objects=deps.objects,
        resources=deps.resources,
        events=deps.events,
        clock=deps.clock,
        verifier=deps.verifier,
        urls=deps.urls,
        settings=deps.settings,
        coordinator=service.Coordinator(parts),
        logs=logs.LogStore(database),
        service_token=deps.service_token,
        session_key=deps.session_key,
        api_url=deps.api_url,
        python=deps.python,
        checks={"The database": database.ping, **deps.checks},
    )


def policy(deps: ApiDependencies) -> http_guard.Policy:
    """Return what the guard lets through."""
    chosen = deps.settings
    return http_guard.Policy(
        hosts=frozenset(chosen.allowed_hosts),
        origins=frozenset(chosen.allowed_origins),
        body_limit_bytes=chosen.body_limit_bytes,
        body_limits={
            f"{PREFIX}/internal/trials/": AGENT_BODY_BYTES,
            f"{PREFIX}/projects/*/uploads/": uploads.PIECE_LIMIT_BYTES,
            f"{PREFIX}/projects/*/datasets/": DATASET_BODY_BYTES,
            f"{PREFIX}/projects/*/datasets/*/versions": data_routes.LABELS_LIMIT_BYTES,
            f"{PREFIX}/bytes/": chosen.object_limit_bytes,
            f"{PREFIX}/bundles/": chosen.bundle_limit_bytes,
            **deps.body_limits,
        },
        reads_by_post=(f"{PREFIX}/projects/*/experiments/*/tensorboard/",),
    )


def include_routes(app: fastapi.FastAPI) -> None:
    """Add every route of the API to an application; also used to write the OpenAPI file."""
    for router in (
        health.version_router,
        identity_routes.router,
        experiments.router,
        run_routes.router,
        tensorboard_routes.router,
        objects.router,
        agent_routes.router,
        fact_routes.router,
        data_routes.build_router(),
    ):
        app.include_router(router, prefix=PREFIX)
    app.include_router(health.router)
    app.include_router(identity_routes.pages)


def _tensorboard(ctx: context.Context) -> tensorboard_routes.Parts:
    chosen = ctx.settings
    return tensorboard_routes.Parts(
        boards=boards.Boards(
            ctx.database,
            ctx.resources,
            limit=chosen.tensorboard_limit,
            idle_s=chosen.tensorboard_idle_minutes * 60,
        ),
        admission=admission.Admission(ctx.session_key, ctx.clock),
    )


def _ticks(ctx: context.Context) -> tuple[Callable[[], None], ...]:
    holder = secrets.token_hex(8)
    lives = liveness.Liveness(
        ctx.coordinator,
        database=ctx.database,
        clock=ctx.clock,
        silence_s=ctx.settings.agent_silence_s,
        flush_s=ctx.settings.heartbeat_flush_s,
        holder=holder,
    )
    tidy = housekeeping.Housekeeping(
        database=ctx.database, changes=ctx.outbox, clock=ctx.clock, holder=holder
    )
    return lives.tick, tidy.tick


@asynccontextmanager
async def _lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
    app.state.background.start()
    yield
    app.state.background.stop()
    app.state.context.database.dispose()
