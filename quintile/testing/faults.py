"""Faults at one write to the Kubernetes API: refused, too busy, broken, lost before or after."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from typing import Any, Final, Literal

import urllib3

from quintile.adapters import client_kube
from quintile.core import errors

Fault = Literal[
    "conflict",
    "busy",
    "broken",
    "gateway",
    "lost request",
    "lost answer",
    "crash before",
    "crash after",
]
FAULTS: Final[tuple[Fault, ...]] = (
    "conflict",
    "busy",
    "broken",
    "gateway",
    "lost request",
    "lost answer",
    "crash before",
    "crash after",
)
_STATUSES: Final = {"conflict": 409, "busy": 429, "broken": 500, "gateway": 503}


class Crash(Exception):
    """The process ends here."""


def crash() -> None:
    """End the process, as a test in the same process sees it.

    Raises:
        Crash: Always.
    """
    raise Crash


def die() -> None:
    """End the process for real."""
    os.kill(os.getpid(), signal.SIGKILL)


class FaultyWrites:
    """Writes of one client, counted; one of them goes wrong. Thread-safe.

    Args:
        client: Its writes pass through here from now on.
        at: Which write goes wrong, from 0; None: none.
        fault: How.
        crash: What the faults that are crashes do.
    """

    def __init__(
        self,
        client: client_kube.KubeClient,
        *,
        at: int | None = None,
        fault: Fault = "broken",
        crash: Callable[[], None] = crash,
    ) -> None:
        self.writes: list[str] = []
        self._numbers = itertools.count()
        self._crash = crash
        self._at = at
        self._fault = fault
        self._sent = client._send
        client._send = self._send  # type: ignore[method-assign]

    def _send(self, method: str, path: str, *args: Any, **named: Any) -> urllib3.BaseHTTPResponse:
        if method == "GET":
            return self._sent(method, path, *args, **named)
        number = next(self._numbers)
        self.writes.append(f"{method} {path}")
        if number != self._at:
            return self._sent(method, path, *args, **named)
        if self._fault in _STATUSES:
            raise client_kube.failure(method, path, _STATUSES[self._fault], b"injected")
        if self._fault == "crash before":
            self._crash()
        if self._fault == "lost request":
            raise errors.Unavailable("The request was lost.")
        # The API server has done it, and nobody hears of it.
        self._sent(method, path, *args, **named).read()
        if self._fault == "crash after":
            self._crash()
        raise errors.Unavailable("The answer was lost.")
