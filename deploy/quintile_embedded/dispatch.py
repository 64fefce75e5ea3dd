"""One ASGI application out of two: requests go by path, both lifespans run."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import fastapi

from quintile.adapters import http_guard
from quintile.core import origin


class Dispatcher:
    """Pure ASGI, so that streams pass unbuffered."""

    def __init__(self, api: fastapi.FastAPI, labeling: fastapi.FastAPI) -> None:
        self._api = api
        self._labeling = labeling

    async def __call__(
        self, scope: http_guard.Scope, receive: http_guard.Receive, send: http_guard.Send
    ) -> None:
        """Serve one request; lifespans are the business of ``lifespan``."""
        found = self._labeling if origin.is_labeling(scope.get("path", "")) else self._api
        await found(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Start both applications, the API first; stop them in the other order."""
        async with (
            self._api.router.lifespan_context(self._api),
            self._labeling.router.lifespan_context(self._labeling),
        ):
            yield
