"""One event loop in a background thread, for callers that block."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent import futures
from typing import Any, Final, TypeVar

T = TypeVar("T")
_END: Final = object()
CLOSE_S: Final = 2.0


class BackgroundLoop:
    """Runs coroutines for any number of threads. Starts at the first call, also after a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Block until ``work`` is done; Ctrl-C cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Yield what an async iterator yields."""
        try:
            while True:
                found = self.run(_next(items))
                if found is _END:
                    return
                yield found  # type: ignore[misc]
        finally:
            self._close(items)

    def stop(self) -> None:
        """End the thread; a later call starts a new one."""
        with self._lock:
            loop, self._loop = self._loop, None
            thread, self._thread = self._thread, None
        if loop is not None and thread is not None and self._pid == os.getpid():
            loop.call_soon_threadsafe(loop.stop)
            thread.join(CLOSE_S)

    def _close(self, items: AsyncIterator[Any]) -> None:
        """Let an abandoned iterator release its connection; a loop that is gone cannot wait."""
        close = getattr(items, "aclose", None)
        if close is None or self._loop is None or self._pid != os.getpid():
            return
        future = asyncio.run_coroutine_threadsafe(close(), self._loop)
        with contextlib.suppress(futures.TimeoutError, futures.CancelledError):
            future.result(timeout=CLOSE_S)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="quintile-sdk", daemon=True
                )
                self._thread.start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(_end_all())
    finally:
        loop.close()


async def _end_all() -> None:
    """Cancel what still runs and close what was read half, as ``asyncio.run`` does at its end."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


async def _next(items: AsyncIterator[T]) -> T | object:
    return await anext(items, _END)
