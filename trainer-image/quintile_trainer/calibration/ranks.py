"""Processes that measure: forked once torch is loaded, told what to do one call at a time."""

from __future__ import annotations

import contextlib
import datetime
import multiprocessing
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from quintile_trainer import parent_death

Entering = Callable[[int], None]
_FORK = multiprocessing.get_context("fork")
_MEETING = datetime.timedelta(seconds=60)
_END_S = 5.0


class RankFailed(RuntimeError):
    """A measuring process raised, died, or took too long; the message says which and why."""


class Member:
    """A rank's own end: who it is, and the groups of the first n ranks."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self._groups = {
            count: distributed.new_group(list(range(count))) for count in range(1, size + 1)
        }

    def group(self, ranks: int) -> Any:
        """Return the group of the first ``ranks`` ranks."""
        return self._groups[ranks]

    def meet(self, ranks: int) -> None:
        """Wait until the first ``ranks`` ranks are here."""
        if ranks > 1:
            distributed.barrier(group=self.group(ranks))


class Team:
    """The parent's end. Make it with ``team``."""

    def __init__(self, processes: Sequence[Any], pipes: Sequence[connection.Connection]) -> None:
        self._processes = processes
        self._pipes = pipes

    def call(
        self, ranks: int, function: Callable[..., Any], *arguments: Any, timeout_s: float = 120.0
    ) -> list[Any]:
        """Return what ``function(member, *arguments)`` returns on each of the first ranks.

        Raises:
            RankFailed: One raised, died, or took too long.
        """
        for pipe in self._pipes[:ranks]:
            pipe.send((function, arguments))
        deadline = time.monotonic() + timeout_s
        return [self._answer(rank, deadline) for rank in range(ranks)]

    def close(self) -> None:
        """End the processes."""
        for process, pipe in zip(self._processes, self._pipes, strict=True):
            pipe.close()
            if process.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            process.join(_END_S)

    def _answer(self, rank: int, deadline: float) -> Any:
        pipe = self._pipes[rank]
        if not pipe.poll(max(0.0, deadline - time.monotonic())):
            raise RankFailed(f"rank {rank} of the calibration did not answer in time")
        try:
            good, value = pipe.recv()
        except EOFError as error:
            raise RankFailed(f"rank {rank} of the calibration died") from error
        if not good:
            raise RankFailed(f"rank {rank} of the calibration failed:\n{value}")
        return value


@contextlib.contextmanager
def team(size: int, folder: Path, *, threads: int, enter: Entering | None = None) -> Iterator[Team]:
    """Yield ``size`` processes that have met.

    Args:
        size: How many.
        folder: Where they find each other; empty.
        threads: Of each.
        enter: Called first in each process with its rank, as to put it into another network.

    Raises:
        RankFailed: They did not meet.
    """
    started: list[Any] = []
    pipes: list[connection.Connection] = []
    for rank in range(size):
        ours, theirs = _FORK.Pipe()
        place = (rank, size, folder / "meeting", threads)
        process = _FORK.Process(
            target=_serve, args=(theirs, place, enter, os.getpid()), daemon=True
        )
        with warnings.catch_warnings():
            # Loading torch leaves no thread that holds a lock which a rank needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        started.append(process)
        pipes.append(ours)
    found = Team(started, pipes)
    try:
        found.call(size, _ready)
        yield found
    finally:
        found.close()


def _ready(member: Member) -> int:
    return member.rank


def _serve(
    pipe: connection.Connection,
    place: tuple[int, int, Path, int],
    enter: Entering | None,
    parent: int,
) -> None:
    try:
        parent_death.arm(parent)
        member = _join(*place, enter)
    except BaseException:  # the boundary of the process: the parent says what happened
        pipe.send((False, traceback.format_exc()))
        return
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer = (True, function(member, *arguments))
        except BaseException:  # the boundary of the process, as above
            answer = (False, traceback.format_exc())
        pipe.send(answer)


def _join(rank: int, size: int, path: Path, threads: int, enter: Entering | None) -> Member:
    if enter is not None:
        enter(rank)
    else:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(threads)
    store = distributed.FileStore(str(path), size)  # type: ignore[attr-defined]
    distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=size, timeout=_MEETING
    )
    return Member(rank, size)
