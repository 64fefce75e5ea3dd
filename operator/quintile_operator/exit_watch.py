"""One thread that notices at once when a process ends, and does regular chores in between.

Called by ``quintile_operator.executor_process``. Works for children and for processes that an
earlier server started; where the kernel gives no pidfd, a look at the table replaces it.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import Final, Protocol

from quintile_operator import process_table

BUSY_S: Final = 0.1
IDLE_S: Final = 2.0


class Chores(Protocol):
    """What the owner of the watch does in its thread."""

    def ended(self, process: process_table.ProcessId) -> None:
        """A watched process ended."""
        ...

    def chores(self) -> bool:
        """Do what is due; return whether more is due soon."""
        ...


class ExitWatch:
    """Watches processes. ``start`` and ``stop`` once each; ``add`` and ``wake`` from any thread."""

    def __init__(self, owner: Chores, *, on_fault: Callable[[BaseException], None]) -> None:
        self._owner = owner
        self._on_fault = on_fault
        self._lock = threading.Lock()
        self._watched: dict[process_table.ProcessId, int] = {}
        self._poll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._bell, select.EPOLLIN)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="executor-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; processes go on. Idempotent."""
        self._stopped = True
        if self._thread.is_alive():
            self.wake()
            self._thread.join()
        with self._lock:
            if self._poll.closed:
                return
            for descriptor in self._watched.values():
                if descriptor >= 0:
                    os.close(descriptor)
            self._watched.clear()
            self._poll.close()
            os.close(self._bell)

    def add(self, process: process_table.ProcessId) -> None:
        """Watch a process; one that has ended already is noticed too."""
        with self._lock:
            if process in self._watched or self._poll.closed:
                return
            try:
                descriptor = os.pidfd_open(process.pid)
            except OSError:
                descriptor = -1  # gone, or not given; the table tells
            self._watched[process] = descriptor
            if descriptor >= 0:
                self._poll.register(descriptor, select.EPOLLIN)
        self.wake()

    def wake(self) -> None:
        """Let the thread look now; nothing happens once it ended."""
        with self._lock:
            if not self._poll.closed:
                os.eventfd_write(self._bell, 1)

    def _run(self) -> None:
        busy = True
        while not self._stopped:
            try:
                self._poll.poll(BUSY_S if busy else IDLE_S)
                self._hush()
                for process in self._take_ended():
                    self._owner.ended(process)
                busy = self._owner.chores()
            except Exception as error:  # the boundary of the thread; without it none is reaped
                self._on_fault(error)
                busy = False

    def _hush(self) -> None:
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            return

    def _take_ended(self) -> list[process_table.ProcessId]:
        with self._lock:
            ended = [process for process in self._watched if not process_table.is_alive(process)]
            for process in ended:
                descriptor = self._watched.pop(process)
                if descriptor >= 0:
                    self._poll.unregister(descriptor)
                    os.close(descriptor)
        return ended
