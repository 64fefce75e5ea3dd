"""When an ended replica of an elastic attempt may be started again: at once, then after pauses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from quintile.core import runplan, verdict

LONGEST_PAUSE_S: Final = 60.0
STABLE_S: Final = 120.0
"""A replica that lived for so long begins its pauses anew."""


@dataclass(frozen=True)
class _Last:
    """How often a replica was started again, and when last."""

    count: int
    at_s: float


class Revivals:
    """Counts by replica; in memory, so that a new server begins anew. One caller at a time."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], _Last] = {}

    def is_due(
        self, place: tuple[str, str], seen: runplan.ObservedReplica, *, now_s: float
    ) -> bool:
        """Return whether a replica shall be started again now; if so, it counts as started."""
        if not verdict.repairable(seen):
            return False
        last = self._last.get(place)
        if last is not None and not last.at_s <= now_s < last.at_s + STABLE_S:
            last = None
        if last is not None and now_s < last.at_s + pause_s(last.count):
            return False
        self._last[place] = _Last(last.count + 1 if last is not None else 1, now_s)
        return True

    def forget(self, place: tuple[str, str]) -> None:
        """Forget a replica."""
        self._last.pop(place, None)


def pause_s(count: int) -> float:
    """Return the seconds from the ``count``-th start again to the next: 2, 4, ... at most 60."""
    return min(LONGEST_PAUSE_S, 2.0 ** min(count, 16))
