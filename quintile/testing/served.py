"""A real HTTP server around an application of ours, in a thread; it can go away and come back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator

import uvicorn

from quintile.adapters import http_guard
from quintile.testing import waiting


class Served:
    """Serves an application on the loopback address; ``url`` stays while it stops and starts.

    ``on_stop`` runs in the loop of the server when it stops.
    """

    def __init__(
        self, app: http_guard.App, *, on_stop: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._app = app
        self._on_stop = on_stop
        self._port = 0
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.start()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Begin to serve, on the port of the last time."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(128)
        self._port = int(listener.getsockname()[1])
        server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                lifespan="off",
                log_config=None,
                ws="none",
                timeout_graceful_shutdown=0,
            )
        )
        self._server = server
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._serve(server, listener),), daemon=True
        )
        self._thread.start()
        waiting.until(lambda: server.started)

    async def _serve(self, server: uvicorn.Server, listener: socket.socket) -> None:
        await server.serve(sockets=[listener])
        if self._on_stop is not None:
            await self._on_stop()

    def stop(self) -> None:
        """Stop, and refuse connections."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(30)
            self._server = None


@contextlib.contextmanager
def serving(
    app: http_guard.App, *, on_stop: Callable[[], Awaitable[None]] | None = None
) -> Iterator[Served]:
    """Serve within a block."""
    made = Served(app, on_stop=on_stop)
    try:
        yield made
    finally:
        made.stop()
