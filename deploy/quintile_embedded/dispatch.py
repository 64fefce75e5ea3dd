"""One ASGI application out of two: requests go by path, both lifespans run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Final

import fastapi

from quintile.adapters import http_guard

_LABELING: Final = re.compile(
    r"/api/v1/(projects/[^/]+/labeling-jobs(/|$)|internal/labeling/|labeling/)", re.ASCII
)


class Dispatcher:
    """Pure ASGI, so that streams pass unbuffered."""

    def __init__(self, api: fastapi.FastAPI, labeling: fastapi.FastAPI) -> None:
        self._api = api
        self._labeling = labeling

    async def __call__(
        self, scope: http_guard.Scope, receive: http_guard.Receive, send: http_guard.Send
    ) -> None:
        """Serve one request; lifespans are the business of ``lifespan``."""
        found = self._labeling if _LABELING.match(scope.get("path", "")) else self._api
        await found(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Start both applications, the API first; stop them in the other order."""
        async with (
            self._api.router.lifespan_context(self._api),
            self._labeling.router.lifespan_context(self._labeling),
        ):
            yield
