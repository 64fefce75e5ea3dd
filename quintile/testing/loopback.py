"""A small HTTP server on the loopback address, whose connections can be cut; for fakes."""

from __future__ import annotations

import http.server
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """What came in; ``token`` is that of the Authorization header."""

    method: str
    path: str
    token: str
    body: bytes


Response = tuple[int, bytes]
"""Status and body."""


class Server:
    """Serves from its making until ``close``, each connection in a thread of its own."""

    def __init__(self, answer: Callable[[Request], Response], *, port: int = 0) -> None:
        class Handler(_Handler):
            respond = staticmethod(answer)

        self._server = _Threads(("127.0.0.1", port), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop, and cut every connection."""
        self._server.shutdown()
        self._server.server_close()
        self._server.drop()


class _Threads(http.server.ThreadingHTTPServer):
    """A server that can also end the connections that it has."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self.open: set[Any] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def drop(self) -> None:
        for request in list(self.open):
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a test drops connections on purpose."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    respond: Callable[[Request], Response]

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:  # noqa: N802
        self._serve()

    def do_POST(self) -> None:  # noqa: N802
        self._serve()

    def do_PUT(self) -> None:  # noqa: N802
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urllib.parse.urlsplit(self.path).path
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        status, data = self.respond(Request(self.command, path, token, body))
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
