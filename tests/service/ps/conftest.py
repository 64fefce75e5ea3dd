"""Real servers and workers on loopback: forked from the test, so that torch is loaded once."""

from __future__ import annotations

import multiprocessing
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

import pytest
import torch

from quintile_trainer import failures
from quintile_trainer.ps import server, settings

SECRET = b"trial-token"
WAIT_S = 60.0
FORK = multiprocessing.get_context("fork")


@dataclass
class Started:
    """A forked process and the end of the pipe that its result comes through."""

    process: Any
    pipe: connection.Connection

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def message(self) -> Any:
        """Return what the process sent next."""
        assert self.pipe.poll(WAIT_S), "the process said nothing in time"
        return self.pipe.recv()

    def result(self) -> Any:
        """Return what the function returned; fails if it raised."""
        kind, value = self.message()
        assert kind == "ok", value
        self.process.join(WAIT_S)
        return value

    def error(self) -> str:
        """Return what the function raised, as ``Kind: text``."""
        kind, value = self.message()
        assert kind == "error", f"expected an error, got {value!r}"
        self.process.join(WAIT_S)
        return value


class Teller:
    """What a forked process says before its end."""

    pipe: connection.Connection | None = None

    def __call__(self, message: Any) -> None:
        assert self.pipe is not None
        self.pipe.send(message)


TELL = Teller()


def fork(function: Callable[..., Any], *arguments: Any) -> Started:
    """Run a function in a process of its own."""
    ours, theirs = FORK.Pipe()

    def body() -> None:
        torch.set_num_threads(1)
        TELL.pipe = theirs
        try:
            answer = ("ok", function(*arguments))
        except failures.RankFailure as error:
            answer = ("error", f"{type(error).__name__}: {error}")
        theirs.send(answer)

    with warnings.catch_warnings():
        # Newer Pythons warn of threads at a fork; numeric libraries own them, and do not use them.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = FORK.Process(target=body, daemon=True)
        process.start()
    theirs.close()
    return Started(process, ours)


class Cluster:
    """Servers of one generation."""

    def __init__(self, *, servers: int, workers: int, generation: int, limits: settings.Limits):
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(servers)]
        port = listeners[0].getsockname()[1]
        self.team = settings.Team(servers, workers, generation, "127.0.0.1", port, limits)
        self.secret = SECRET
        self.servers = [
            fork(self._serve, number, listener) for number, listener in enumerate(listeners)
        ]
        self.workers: list[Started] = []
        self.tell = TELL
        for listener in listeners:
            listener.close()

    def _serve(self, number: int, listener: socket.socket) -> dict[str, Any]:
        return server.run(server.Place(self.team, number, "127.0.0.1"), SECRET, listener=listener)

    def work(self, function: Callable[..., Any], *arguments: Any) -> list[Started]:
        """Start every worker with ``function(cluster, rank, *arguments)``."""
        started = [fork(function, self, rank, *arguments) for rank in range(self.team.workers)]
        self.workers.extend(started)
        return started

    def start(self, function: Callable[..., Any], *arguments: Any) -> Started:
        """Start one process that belongs to this cluster."""
        started = fork(function, self, *arguments)
        self.workers.append(started)
        return started

    def stop(self) -> None:
        for started in (*self.workers, *self.servers):
            if started.process.is_alive():
                started.process.kill()
            started.process.join(WAIT_S)
            started.pipe.close()


@pytest.fixture
def cluster() -> Iterator[Callable[..., Cluster]]:
    """Return a function that starts servers; all is stopped at the end."""
    clusters: list[Cluster] = []

    def start(
        *,
        servers: int = 1,
        workers: int = 1,
        generation: int = 1,
        limits: settings.Limits | None = None,
    ) -> Cluster:
        quick = limits or settings.Limits(
            meeting_s=30, answer_s=30, reconnect_s=1.0, cut_s=30, slice_s=0.02
        )
        clusters.append(
            Cluster(servers=servers, workers=workers, generation=generation, limits=quick)
        )
        return clusters[-1]

    yield start
    for entry in clusters:
        entry.stop()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Return a function that waits for a condition, at most ``WAIT_S``."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            time.sleep(0.01)

    return wait
