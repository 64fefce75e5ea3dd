"""Two small web servers: whether the operator lives (``/healthz``), is ready, and its figures.

``/healthz`` is 503 when our own writes no longer come back through our watch, so that the kubelet
starts the container again; a candidate that waits for the Lease is healthy and ready.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import server
from typing import Final

from quintile import logs

_LOG: Final = logs.get(__name__)


class Health:
    """Serves until ``close``.

    Args:
        host: Address to listen on.
        ports: Ports to listen on, the same answers on each; 0 takes any free one.
        problem: Says what is wrong, empty while nothing is.
        figures: Returns the figures and their content type.
    """

    def __init__(
        self,
        host: str,
        ports: tuple[int, ...],
        *,
        problem: Callable[[], str],
        figures: Callable[[], tuple[bytes, str]],
    ) -> None:
        class Handler(server.BaseHTTPRequestHandler):
            """Answers three paths."""

            timeout = 10

            def do_GET(self) -> None:  # noqa: N802 the name that http.server calls
                if self.path.partition("?")[0] == "/metrics":
                    body, kind = figures()
                    self._answer(200, body, kind)
                elif self.path.partition("?")[0] in ("/healthz", "/readyz"):
                    found = problem()
                    self._answer(503 if found else 200, (found or "ok").encode(), "text/plain")
                else:
                    self._answer(404, b"see /healthz, /readyz, /metrics", "text/plain")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                _LOG.debug("served", line=format % args)

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._servers = [server.ThreadingHTTPServer((host, port), Handler) for port in ports]
        for one in self._servers:
            one.daemon_threads = True
            threading.Thread(target=one.serve_forever, name="health", daemon=True).start()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each server."""
        return [(str(one.server_address[0]), int(one.server_address[1])) for one in self._servers]

    def close(self) -> None:
        """Serve no longer."""
        for one in self._servers:
            one.shutdown()
            one.server_close()
