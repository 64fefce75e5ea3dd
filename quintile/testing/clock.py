"""A clock that stands still until it is told to go on."""

from __future__ import annotations

import threading


class FakeClock:
    """Time as a number; ``sleep`` advances it at once. Thread-safe.

    Args:
        now_s: Seconds since the epoch at the start.
    """

    def __init__(self, now_s: float = 1_800_000_000.0) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return the current seconds since the epoch."""
        with self._lock:
            return self._now_s

    def sleep(self, seconds: float) -> None:
        """Advance by ``seconds`` without waiting."""
        with self._lock:
            self._now_s += max(0.0, seconds)
