"""Server-sent events, from lines of text to events. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One event; ``kind`` is ``message`` when the server gave none."""

    kind: str
    data: str
    id: str = ""


async def events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """Yield the events of a stream; comments and events without data are skipped."""
    kind, last_id = "message", ""
    data: list[str] = []
    async for line in lines:
        if not line:
            if data:
                yield Event(kind, "\n".join(data), last_id)
            kind, data = "message", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id":
            last_id = value
