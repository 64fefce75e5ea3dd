"""What the main thread waits for: signals of the kernel and events of the other threads.

One pipe wakes it for both, so that nothing is polled and a signal is never missed.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quintile_trainer.agent import wire


@dataclass(frozen=True)
class Ready:
    """A generation can start: its plan (JSON) and where its checkpoint lies (empty = none)."""

    ticket: int
    plan: wire.Json
    resume_dir: str
    access: wire.Json | None


@dataclass(frozen=True)
class Advice:
    """What the coordinator said: a directive, the state and number of the newest generation.

    ``asked`` is the generation that our message spoke for.
    """

    directive: str
    state: str
    generation: int
    asked: int


@dataclass(frozen=True)
class Broken:
    """Something that no retry mends: a reason word and a sentence.

    ``lasting``: another attempt would meet the same (a wrong spec, a dataset that is gone).
    """

    reason: str
    message: str
    lasting: bool = False


@dataclass(frozen=True)
class Delivered:
    """The end of a rank was reported (or nobody wants to hear of it any more)."""

    generation: int
    rank: int


@dataclass(frozen=True)
class Errand:
    """Something that another thread wants done for a generation, if that still runs."""

    generation: int
    do: Callable[[], None]


Event = Ready | Advice | Broken | Delivered | Errand


class Inbox:
    """Events in order of arrival. ``post`` from any thread, ``wait`` from the main thread."""

    def __init__(self) -> None:
        self._events: collections.deque[Event] = collections.deque()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self.asked_to_leave = False

    def listen(self) -> None:
        """Let SIGCHLD, SIGTERM and SIGINT wake the main thread. Main thread only."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._leave)

    def post(self, event: Event) -> None:
        """Hand an event to the main thread."""
        self._events.append(event)
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")

    def wait(self, timeout_s: float) -> list[Event]:
        """Return the events so far; blocks up to ``timeout_s`` while nothing happens at all."""
        if not self._events:
            select.select([self._read], [], [], max(timeout_s, 0))
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass
        events = []
        while self._events:
            events.append(self._events.popleft())
        return events

    def _leave(self, _number: int, _frame: Any) -> None:
        self.asked_to_leave = True


def start_thread(name: str, work: Callable[[], None], box: Inbox) -> None:
    """Run ``work`` in a thread whose fault ends the agent with a record, never unnoticed."""

    def guarded() -> None:
        try:
            work()
        except Exception as error:  # the boundary of the thread
            text = f"thread {name}: {type(error).__name__}: {error}"
            box.post(Broken("AgentInternal", text))

    threading.Thread(target=guarded, name=name, daemon=True).start()


def _nothing(_number: int, _frame: Any) -> None:
    """Exist, so that the kernel interrupts and the wake-up pipe is written."""
