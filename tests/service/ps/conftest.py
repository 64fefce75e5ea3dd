"""Real servers and workers on loopback, in processes of their own."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch

from quintile.testing import forked
from quintile_trainer.ps import server, settings

SECRET = b"trial-token"
QUICK = settings.Limits(meeting_s=30, answer_s=30, reconnect_s=1.0, cut_s=30, slice_s=0.02)


class Cluster:
    """Servers of one generation; in a worker's process ``tell`` sends messages to the test."""

    def __init__(
        self, *, servers: int, workers: int, generation: int, limits: settings.Limits
    ) -> None:
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(servers)]
        port = listeners[0].getsockname()[1]
        self.team = settings.Team(servers, workers, generation, "127.0.0.1", port, limits)
        self.secret = SECRET
        self.tell: Callable[[Any], None] = print
        self.servers = [
            forked.start(self._serve, number, listener) for number, listener in enumerate(listeners)
        ]
        self.workers: list[forked.Forked] = []
        for listener in listeners:
            listener.close()

    def work(self, function: Callable[..., Any], *arguments: Any) -> list[forked.Forked]:
        """Start every worker with ``function(cluster, rank, *arguments)``."""
        return [self.start(function, rank, *arguments) for rank in range(self.team.workers)]

    def start(self, function: Callable[..., Any], *arguments: Any) -> forked.Forked:
        """Start one process with ``function(cluster, *arguments)``."""
        started = forked.start(self._body, function, *arguments)
        self.workers.append(started)
        return started

    def stop(self) -> None:
        for started in (*self.workers, *self.servers):
            started.end()

    def _serve(
        self, _tell: Callable[[Any], None], number: int, listener: socket.socket
    ) -> dict[str, Any]:
        torch.set_num_threads(1)
        return server.run(server.Place(self.team, number, "127.0.0.1"), SECRET, listener=listener)

    def _body(
        self, tell: Callable[[Any], None], function: Callable[..., Any], *arguments: Any
    ) -> Any:
        torch.set_num_threads(1)
        self.tell = tell
        return function(self, *arguments)


@pytest.fixture
def cluster() -> Iterator[Callable[..., Cluster]]:
    """Return a function that starts servers; all is stopped at the end."""
    clusters: list[Cluster] = []

    def start(
        *, servers: int = 1, workers: int = 1, generation: int = 1, limits: Any = QUICK
    ) -> Cluster:
        shape = {"servers": servers, "workers": workers, "generation": generation}
        clusters.append(Cluster(**shape, limits=limits))
        return clusters[-1]

    yield start
    for entry in clusters:
        entry.stop()


@pytest.fixture
def tap() -> Callable[..., Any]:
    """Return ``forward``."""
    return forward


@contextlib.contextmanager
def forward(
    to_port: int, breaks: tuple[int, ...] = (), spared: bytes = b"-"
) -> Iterator[tuple[int, list[bytes]]]:
    """Forward connections to a port; the n-th breaks after ``breaks[n]`` bytes from its caller.

    Callers that begin with the words ``spared`` are left alone. Yields our port, and what
    connections without a break carried, both ways.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[bytes] = []
    limits = list(breaks)
    threads: list[threading.Thread] = []
    ends: list[socket.socket] = []

    def pump(source: socket.socket, sink: socket.socket, limit: float | None) -> None:
        done = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if not done and spared in data:
                    limit = None
                done += len(data)
                if limit is None:
                    seen.append(data)
                elif done > limit:
                    break
                sink.sendall(data)
        hang_up((source, sink))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", to_port))
                ends.extend((near, far))
                limit = limits.pop(0) if limits else None
                back = None if limit is None else math.inf
                run(pump, near, far, limit)
                run(pump, far, near, back)

    def run(function: Callable[..., None], *arguments: Any) -> None:
        threads.append(threading.Thread(target=function, args=arguments))
        threads[-1].start()

    run(accept)
    try:
        yield listener.getsockname()[1], seen
    finally:
        hang_up((listener,))
        threads[0].join()
        hang_up(ends)
        for thread in threads:
            thread.join()
        for end in (listener, *ends):
            end.close()


def hang_up(ends: Iterable[socket.socket]) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
