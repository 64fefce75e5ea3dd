"""Port ``Clock`` on the machine's own time."""

from __future__ import annotations

import time


class SystemClock:
    """The wall clock. Thread-safe; ``sleep`` blocks its caller alone."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Block for ``seconds``; nothing happens for zero or less."""
        if seconds > 0:
            time.sleep(seconds)
