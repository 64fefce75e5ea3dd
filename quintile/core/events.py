"""Events of resources as people read them; recorded through the port ``EventSink``."""

from __future__ import annotations

from typing import Literal

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
