"""Where notable happenings go: rows beside the resources, or Kubernetes Events."""

from __future__ import annotations

from typing import Protocol

from quintile.core import runplan


class EventSink(Protocol):
    """Fire-and-forget notes for people."""

    def emit(self, event: runplan.Event) -> None:
        """Record an event. Equal events (same object, reason, message) are counted, not repeated.

        Not ordered with status writes. Never raises for a full or absent sink beyond
        ``Unavailable``.
        """
        ...
