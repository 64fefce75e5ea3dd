"""Real servers and workers on loopback, in processes of their own."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
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
