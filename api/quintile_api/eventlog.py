"""Reading the events that an EventSink recorded about a resource; adapters implement it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from quintile.core.meta import Message


class EventView(Message):
    """Something that happened to a resource; equal ones are counted."""

    kind: str
    namespace: str
    name: str
    uid: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    count: int
    first_time: float
    last_time: float


class EventLog(Protocol):
    """The reading side of an EventSink."""

    def events(
        self, namespace: str, *, kind: str = "", name: str = "", limit: int = 100
    ) -> Sequence[EventView]:
        """Return the newest events of a namespace, newest first; "" does not filter."""
        ...
