"""Serves an application on one socket until a signal asks to stop; uvicorn, told what to do.

The first SIGTERM, SIGINT or SIGHUP stops gracefully: what ``drain`` waits for happens while
requests are still answered. A second one hurries.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

import uvicorn

from quintile.adapters import http_guard
from quintile.core import errors

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LAST_REQUESTS_S: Final = 3
START_POLL_S: Final = 0.01
BACKLOG: Final = 512


@dataclass(frozen=True)
class Service:
    """What is served, and what happens around it.

    Attributes:
        app: The application; its own lifespan is not used.
        lifespan: Entered before the first request, left after the last one.
        on_ready: Called once requests are answered; blocking, brief.
        drain: Called in a thread when the stop begins; returns when all is done, or soon after
            the event that it is given is set.
    """

    app: http_guard.App
    lifespan: Callable[[], AbstractAsyncContextManager[None]]
    on_ready: Callable[[], None]
    drain: Callable[[threading.Event], None]


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to ``serve``."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there.

    Raises:
        InvalidSpec: The host is none of ours, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise errors.InvalidSpec(
            f"Cannot listen on {host} port {port}: {error.strerror or error}.",
            hint="Correct QUINTILE_HOST and QUINTILE_PORT.",
        ) from error
    made.setblocking(False)
    return made


def serve(service: Service, listener: socket.socket) -> None:
    """Serve until a signal comes. Main thread only."""
    asyncio.run(_serve(service, listener))


async def _serve(service: Service, listener: socket.socket) -> None:
    stop, hurry = asyncio.Event(), threading.Event()
    server = _Server(
        uvicorn.Config(
            service.app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=LAST_REQUESTS_S,
        )
    )

    def on_signal() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    async with service.lifespan(), _handling(on_signal):
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(START_POLL_S)
        if not serving.done():
            await asyncio.to_thread(service.on_ready)
        asked = asyncio.create_task(stop.wait())
        await asyncio.wait({asked, serving}, return_when=asyncio.FIRST_COMPLETED)
        if asked.done():
            await asyncio.to_thread(service.drain, hurry)
        asked.cancel()
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def _handling(on_signal: Callable[[], None]) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
