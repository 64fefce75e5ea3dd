"""Time as a dependency, so that tests need no sleeps."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """The current time, and waiting."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block for ``seconds``; the fake advances instead."""
        ...
