"""Reading the events that an EventSink recorded about a resource; adapters implement it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from quintile.core.events import EventView

__all__ = ["EventLog", "EventView"]


class EventLog(Protocol):
    """The reading side of an EventSink."""

    def events(
        self, namespace: str, *, kind: str = "", name: str = "", limit: int = 100
    ) -> Sequence[EventView]:
        """Return the newest events of a namespace, newest first; "" does not filter."""
        ...
