"""EventSink in memory, readable as the API reads events."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from quintile import ports
from quintile.core import runplan
from quintile.core.events import EventView


class FakeEventSink:
    """Events in order of their first appearance; equal ones are counted.

    Args:
        clock: Gives times.
    """

    def __init__(self, *, clock: ports.Clock) -> None:
        self._clock = clock
        self._views: dict[runplan.Event, EventView] = {}
        self._lock = threading.Lock()

    @property
    def seen(self) -> tuple[runplan.Event, ...]:
        """The distinct events so far."""
        with self._lock:
            return tuple(self._views)

    def emit(self, event: runplan.Event) -> None:
        """Record an event."""
        now_s = self._clock.now()
        with self._lock:
            known = self._views.pop(event, None)
            first = known.first_time if known is not None else now_s
            count = known.count + 1 if known is not None else 1
            self._views[event] = EventView(
                kind=event.kind,
                namespace=event.namespace,
                name=event.name,
                uid=event.uid,
                type=event.type,
                reason=event.reason,
                message=event.message,
                count=count,
                first_time=first,
                last_time=now_s,
            )

    def events(
        self, namespace: str, *, kind: str = "", name: str = "", limit: int = 100
    ) -> Sequence[EventView]:
        """Return the newest events of a namespace, newest first."""
        with self._lock:
            views = list(reversed(self._views.values()))
        found = [
            view
            for view in views
            if view.namespace == namespace and kind in ("", view.kind) and name in ("", view.name)
        ]
        return found[:limit]
