"""A counter that threads and coroutines wait on: "something changed here, look again".

Used by the outbox tail, by the coordinator's long polls and by log followers. Waiting coroutines
hold neither a thread nor a database connection.
"""

from __future__ import annotations

import asyncio
import threading
import time


class Signal:
    """A version that only rises. Read ``version`` *before* looking at the data, then wait on it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._version = 0
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    @property
    def version(self) -> int:
        """The current version."""
        with self._condition:
            return self._version

    def notify(self) -> None:
        """Raise the version and wake everybody; callable from any thread."""
        with self._condition:
            self._version += 1
            self._condition.notify_all()
            waiters = list(self._waiters)
        for loop, arrived in waiters:
            try:
                loop.call_soon_threadsafe(arrived.set)
            except RuntimeError:
                # The loop of this waiter was closed meanwhile; there is nobody left to wake.
                self._forget(loop, arrived)

    def wait(self, version: int, *, timeout_s: float) -> bool:
        """Block until the version differs from ``version``; return whether it does."""
        deadline = time.monotonic() + timeout_s
        with self._condition:
            while self._version == version:
                left = deadline - time.monotonic()
                if left <= 0 or not self._condition.wait(left):
                    break
            return self._version != version

    async def wait_async(self, version: int, *, timeout_s: float) -> bool:
        """Like ``wait``, without holding a thread."""
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        with self._condition:
            if self._version != version:
                return True
            self._waiters.add((loop, arrived))
        try:
            async with asyncio.timeout(timeout_s):
                await arrived.wait()
        except TimeoutError:
            return False
        finally:
            self._forget(loop, arrived)
        return True

    def _forget(self, loop: asyncio.AbstractEventLoop, arrived: asyncio.Event) -> None:
        with self._condition:
            self._waiters.discard((loop, arrived))
