"""The way to the API: JSON over HTTP/1.1 keep-alive, and files by presigned URL.

Every thread of the agent has its own ``Client``; ``Link`` holds what they share: who we are, the
newest generation, when the API last answered. All messages are idempotent, so a broken connection
is tried again at once and an API that is away is asked again with growing pauses.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import itertools
import json
import os
import random
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from quintile_trainer.agent import environment, wire

PIECE_BYTES = 1024 * 1024
LONG_POLL_S = 40.0
"""A join may be held for up to 20 s; other answers are quick."""
TRANSFER_S = 120.0
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
Result = TypeVar("Result")


class Away(Exception):
    """The API (or the store) cannot be reached or asks to come back later."""


class Cancelled(Exception):
    """Whoever waited for the API no longer needs the answer."""


class Refused(Exception):
    """The API answered no. ``directive`` is set when the agent is behind."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or f"HTTP {status}"))
        self.status = status
        self.problem = problem
        self.directive: str = str(problem.get("directive") or "")


class Client:
    """One keep-alive connection. Not thread-safe. ``on_answer`` is called for every answer."""

    def __init__(
        self, base_url: str, token: str, *, timeout_s: float, on_answer: Callable[[], None]
    ) -> None:
        parts = urllib.parse.urlsplit(base_url)
        self._root = parts.path.rstrip("/") + "/api/v1/internal"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._connection = _connection(parts, timeout_s)
        self._on_answer = on_answer

    def post(self, path: str, body: wire.Json) -> wire.Json:
        """Send JSON and return JSON.

        Raises:
            Away: No answer.
            Refused: The answer is a problem.
        """
        return self._json("POST", path, json.dumps(body, separators=(",", ":")).encode())

    def get(self, path: str) -> wire.Json:
        """Return JSON. Raises as ``post``."""
        return self._json("GET", path, None)

    def get_bytes(self, path: str) -> bytes:
        """Return a body. Raises as ``post``."""
        return self._ask("GET", path, None)

    def _json(self, method: str, path: str, body: bytes | None) -> wire.Json:
        data = self._ask(method, path, body)
        try:
            answer: wire.Json = json.loads(data) if data else {}
        except ValueError as error:
            raise Away(f"{method} {path} was answered with no JSON") from error
        return answer

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        for last in (False, True):
            try:
                self._connection.request(method, self._root + path, body, self._headers)
                response = self._connection.getresponse()
                data = response.read()
            except (OSError, http.client.HTTPException) as error:
                # A kept-alive connection may have been closed by the server: one fresh try.
                self._connection.close()
                if last:
                    raise Away(f"{method} {path}: {error or type(error).__name__}") from error
                continue
            if response.status < 500:
                self._on_answer()
            return _checked(response.status, data)
        raise Away(f"{method} {path} failed twice")


class Link:
    """What the threads of an agent share. Thread-safe. ``leaving``: the agent was asked to go."""

    def __init__(self, env: environment.AgentEnv, boot_id: str) -> None:
        self.env = env
        self.boot_id = boot_id
        self.generation = 0
        self.leaving = False
        self._last_contact = time.monotonic()
        self._seq = itertools.count(1)

    def client(self, timeout_s: float = LONG_POLL_S) -> Client:
        """Return a new connection, for one thread."""
        return Client(self.env.api_url, self.env.token, timeout_s=timeout_s, on_answer=self._touch)

    def envelope(self, generation: int | None = None) -> wire.Envelope:
        """Return the fencing fields of the next message."""
        return wire.Envelope(
            attempt=self.env.attempt,
            generation=self.generation if generation is None else generation,
            boot_id=self.boot_id,
            seq=next(self._seq),
            role=self.env.role,
            index=self.env.index,
        )

    def path(self, name: str) -> str:
        """Return the path of an agent route."""
        return f"/trials/{self.env.trial_uid}/{name}"

    def away_s(self) -> float:
        """Return for how long the API has been silent."""
        return time.monotonic() - self._last_contact

    def _touch(self) -> None:
        self._last_contact = time.monotonic()

    def persist(self, call: Callable[[], Result], cancelled: threading.Event) -> Result:
        """Return what ``call`` returns, however long the API is away.

        Raises:
            Cancelled: ``cancelled`` was set meanwhile.
            Refused: The API answered no.
        """
        pause_s = FIRST_PAUSE_S
        while not cancelled.is_set():
            try:
                return call()
            except Away:
                cancelled.wait(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        raise Cancelled


def put_file(url: str, path: Path) -> None:
    """Store a file under a presigned URL.

    Raises:
        Away: The store cannot be reached.
        Refused: It answered no.
    """
    with path.open("rb") as file, _transfer("PUT", url, body=file) as response:
        _checked(response.status, _read(response))


def get_file(url: str, path: Path, *, sha256: str, size_bytes: int) -> None:
    """Read a presigned URL into a file that appears whole, with the digest that was expected.

    Raises:
        Away: The store cannot be reached, or the bytes are not those expected.
        Refused: It answered no.
    """
    temporary = path.with_name(f".{path.name}.part")
    digest = hashlib.sha256()
    with temporary.open("wb") as file, _transfer("GET", url) as response:
        if response.status >= 400:
            _checked(response.status, _read(response))
        while piece := _read(response, PIECE_BYTES):
            digest.update(piece)
            file.write(piece)
        size = file.tell()
    if digest.hexdigest() != sha256 or size != size_bytes:
        raise Away(
            f"{path.name} came with {size} bytes and SHA-256 {digest.hexdigest()[:12]}, "
            f"expected {size_bytes} and {sha256[:12]}"
        )
    temporary.replace(path)


def get_small(url: str) -> bytes:
    """Return the bytes behind a presigned URL. Raises as ``get_file``."""
    with _transfer("GET", url) as response:
        return _checked(response.status, _read(response))


@contextlib.contextmanager
def _transfer(
    method: str, url: str, *, body: BinaryIO | None = None
) -> Iterator[http.client.HTTPResponse]:
    """Send a request of its own connection; yield the response, whose body is not read yet."""
    parts = urllib.parse.urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    headers = {} if body is None else {"Content-Length": str(os.fstat(body.fileno()).st_size)}
    with contextlib.closing(_connection(parts, TRANSFER_S)) as connection:
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise Away(f"{method} {parts.path}: {error or type(error).__name__}") from error
        yield response


def _read(response: http.client.HTTPResponse, size_bytes: int = -1) -> bytes:
    try:
        return response.read() if size_bytes < 0 else response.read(size_bytes)
    except (OSError, http.client.HTTPException) as error:
        raise Away(f"an answer broke off: {error or type(error).__name__}") from error


def _connection(parts: urllib.parse.SplitResult, timeout_s: float) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    host = parts.hostname or "127.0.0.1"
    return kind(host, parts.port, timeout=timeout_s, blocksize=PIECE_BYTES)


def _checked(status: int, data: bytes) -> bytes:
    if status < 400:
        return data
    if status >= 500 or status in (408, 425, 429):
        raise Away(f"HTTP {status}")
    try:
        problem = json.loads(data)
    except ValueError:
        problem = {}
    raise Refused(status, problem if isinstance(problem, dict) else {})
