"""The API's own background work: a thread that ticks liveness and tidies up, and the job worker.

Started and stopped by the application's lifespan; a composition root that serves the application
without lifespan calls ``start`` and ``stop`` itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from quintile.core import errors

TICK_S: Final = 1.0
_LOG = logging.getLogger("quintile.background")


class Part(Protocol):
    """Something with threads of its own; start and stop are idempotent."""

    def start(self) -> None:
        """Begin to work."""
        ...

    def stop(self) -> None:
        """End, giving back what is not done."""
        ...


class Background:
    """Calls ``ticks`` every second in a daemon thread and holds ``parts`` that run by themselves.

    Start and stop are idempotent.
    """

    def __init__(
        self,
        ticks: Sequence[Callable[[], None]],
        *,
        parts: Sequence[Part] = (),
        every_s: float = TICK_S,
    ) -> None:
        self._ticks = tuple(ticks)
        self._parts = tuple(parts)
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to tick, and start the parts."""
        for part in self._parts:
            part.start()
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(
                target=self._run, name="quintile-api-background", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End after the tick that runs now; one last tick writes what is pending."""
        for part in self._parts:
            part.stop()
        if self._thread is not None:
            self._stop.set()
            self._thread.join(timeout=10)
            self._thread = None
            self._once()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._once()

    def _once(self) -> None:
        for tick in self._ticks:
            try:
                tick()
            except errors.QuintileError as error:
                # A tick that fails is tried again; liveness counts the pause as our own.
                _LOG.warning("background tick failed", extra={"reason": str(error)})
