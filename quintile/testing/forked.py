"""Functions of a test in real processes of their own: forked, so that heavy modules load once."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import connection
from typing import Any

_FORK = multiprocessing.get_context("fork")
_WAIT_S = 60.0


class Failed(AssertionError):
    """The function in the process raised; the message is its traceback."""


class Forked:
    """A running function and the pipe that its result comes through."""

    def __init__(self, process: Any, pipe: connection.Connection) -> None:
        self._process = process
        self._pipe = pipe

    @property
    def pid(self) -> int:
        """Return the number of the process."""
        return int(self._process.pid)

    @property
    def lives(self) -> bool:
        """Return whether the process still runs."""
        return bool(self._process.is_alive())

    def told(self) -> Any:
        """Return what the function told next through its first argument."""
        kind, value = self._next()
        assert kind == "told", f"expected a message, got {kind}: {value}"
        return value

    def result(self, *, timeout_s: float = _WAIT_S) -> Any:
        """Return what the function returned.

        Raises:
            Failed: It raised.
        """
        kind, value = self._next(timeout_s)
        if kind != "returned":
            raise Failed(f"{kind}: {value}")
        self._process.join(_WAIT_S)
        return value

    def error(self) -> str:
        """Return what the function raised, as ``Kind: text``."""
        kind, value = self._next()
        assert kind == "raised", f"expected an error, got {kind}: {value!r}"
        self._process.join(_WAIT_S)
        return str(value).strip().splitlines()[-1]

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        os.kill(self.pid, number)

    def end(self) -> None:
        """Kill the process if it still runs, and wait for it."""
        if self._process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._process.join(_WAIT_S)
        self._pipe.close()

    def _next(self, timeout_s: float = _WAIT_S) -> tuple[str, Any]:
        assert self._pipe.poll(timeout_s), "the process said nothing in time"
        try:
            kind, value = self._pipe.recv()
        except EOFError:
            self._process.join(_WAIT_S)
            return "died", self._process.exitcode
        return str(kind), value


def start(function: Callable[..., Any], *arguments: Any) -> Forked:
    """Run ``function(tell, *arguments)`` in a process; ``tell(value)`` sends a message at once."""
    ours, theirs = _FORK.Pipe()

    def body() -> None:
        ours.close()
        try:
            answer = ("returned", function(lambda value: theirs.send(("told", value)), *arguments))
        except BaseException:  # the boundary of the process: the test sees what happened
            answer = ("raised", traceback.format_exc())
        theirs.send(answer)
        theirs.close()

    process = _FORK.Process(target=body, daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    return Forked(process, ours)


@contextlib.contextmanager
def ranks(world_size: int, function: Callable[..., Any], *arguments: Any) -> Iterator[list[Forked]]:
    """Run ``function(tell, rank, world_size, *arguments)`` in one process per rank."""
    started = [start(function, rank, world_size, *arguments) for rank in range(world_size)]
    try:
        yield started
    finally:
        for one in started:
            one.end()
