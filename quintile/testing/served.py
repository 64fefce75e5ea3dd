"""A real HTTP server around an application of ours, in a thread; it can go away and come back."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import uvicorn

from quintile.adapters import http_guard
from quintile.testing import waiting


class Served:
    """Serves an application on the loopback address; ``url`` stays while it stops and starts."""

    def __init__(self, app: http_guard.App) -> None:
        self._app = app
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
            target=server.run, kwargs={"sockets": [listener]}, daemon=True
        )
        self._thread.start()
        waiting.until(lambda: server.started)

    def stop(self) -> None:
        """Stop, and refuse connections."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(30)
            self._server = None


@contextlib.contextmanager
def serving(app: http_guard.App) -> Iterator[Served]:
    """Serve within a block."""
    made = Served(app)
    try:
        yield made
    finally:
        made.stop()
