"""One port, two services: who serves which path, and in which order they start and stop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import anyio
import fastapi
import httpx
import pytest

from quintile_embedded import dispatch


def named(name: str, journal: list[str]) -> fastapi.FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(_app: fastapi.FastAPI) -> AsyncIterator[None]:
        journal.append(f"{name} starts")
        yield
        journal.append(f"{name} stops")

    app = fastapi.FastAPI(lifespan=lifespan)
    app.add_api_route("/{path:path}", lambda: name)
    return app


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/", "api"),
        ("/login", "api"),
        ("/api/v1/projects/p/experiments", "api"),
        ("/api/v1/projects/p/labeling-jobs", "labeling"),
        ("/api/v1/projects/p/labeling-jobs/j/tasks/next", "labeling"),
        ("/api/v1/projects/p/labeling-jobs-x", "api"),
        ("/api/v1/projects/p/datasets/labeling-jobs", "api"),
        ("/api/v1/internal/labeling/uid/rounds/0/open", "labeling"),
        ("/api/v1/internal/trials/uid/join", "api"),
        ("/x/api/v1/internal/labeling/uid", "api"),
    ],
)
def test_requests_go_by_path(path: str, service: str) -> None:
    both = dispatch.Dispatcher(named("api", []), named("labeling", []))

    async def ask() -> str:
        transport = httpx.ASGITransport(app=both)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            found: str = (await client.get(path)).json()
            return found

    assert anyio.run(ask) == service


def test_the_api_starts_first_and_stops_last() -> None:
    journal: list[str] = []
    both = dispatch.Dispatcher(named("api", journal), named("labeling", journal))

    async def live() -> None:
        async with both.lifespan():
            journal.append("serving")

    anyio.run(live)
    assert journal == [
        "api starts",
        "labeling starts",
        "serving",
        "labeling stops",
        "api stops",
    ]
