"""The blocking side of the SDK: a session is one async client on one background loop.

Handles (``Experiment``, ``Dataset``, ...) take the session of ``current``; ``connect`` chooses
another server. There is no second implementation: every call is one of ``quintile.sdk.client``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from quintile.sdk import configuration, loop

if TYPE_CHECKING:
    from quintile.sdk.async_session import AsyncSession
    from quintile.sdk.client import AsyncClient

T = TypeVar("T")


class Session:
    """A server, credentials and a project, for code that blocks.

    Args:
        connection: Where to connect.
        client: The client to use; None = one is made for the connection.
    """

    def __init__(
        self, connection: configuration.Connection, *, client: AsyncClient | None = None
    ) -> None:
        from quintile.sdk import client as clients

        self.project = connection.project
        self.url = connection.url
        self.client = client or clients.AsyncClient(connection.url, token=connection.token)
        self._loop = loop.BackgroundLoop()
        self.pid = os.getpid()

    @property
    def aio(self) -> AsyncSession:
        """Return this session for the async twins; their calls run in its loop (``run``)."""
        from quintile.sdk import async_session

        return async_session.AsyncSession(self.client, self.project)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Block until a call is done."""
        return self._loop.run(work)

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Yield what a listing call yields."""
        return self._loop.iterate(items)

    def collect(self, items: AsyncIterator[T]) -> list[T]:
        """Return everything that a listing call yields."""
        return list(self.iterate(items))

    def close(self) -> None:
        """Close the connections and end the loop."""
        self.run(self.client.aclose())
        self._loop.stop()


_lock = threading.Lock()
_current: Session | None = None


def connect(
    *, url: str | None = None, token: str | None = None, project: str | None = None
) -> Session:
    """Use this server from now on; what is not given comes from the environment."""
    return use(Session(configuration.find(url=url, token=token, project=project)))


def use(session: Session) -> Session:
    """Use this session from now on."""
    global _current
    with _lock:
        _current = session
    return session


def forget() -> None:
    """Use no session; the next call finds one from the environment."""
    global _current
    with _lock:
        _current = None


def current() -> Session:
    """Return the session in use; the first call makes one from the environment.

    Raises:
        Unavailable: No server is known.
    """
    found = _current
    if found is not None and found.pid == os.getpid():
        return found
    return connect()
