"""What every EventSink does, as tests: the fake, the rows, the Events of a cluster.

A subclass of ``Contract`` gives the fixtures ``sink`` and ``clock``.
"""

# ruff: noqa: D102 the name of a test says what it holds

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from typing import Protocol

import pytest

from quintile.core import runplan
from quintile.core.events import EventView
from quintile.testing import clock as fake_clock


class Sink(Protocol):
    """An EventSink that can be read."""

    def emit(self, event: runplan.Event) -> None:
        """Record an event."""
        ...

    def events(
        self, namespace: str, *, kind: str = "", name: str = "", limit: int = 100
    ) -> Sequence[EventView]:
        """Return the newest events."""
        ...


def event(reason: str = "Started", **of: str) -> runplan.Event:
    """Return an event; keywords are its other fields."""
    fields = {"kind": "Trial", "namespace": "default", "name": "digits-t0", "uid": "u1", **of}
    return runplan.Event(
        kind=fields["kind"],
        namespace=fields["namespace"],
        name=fields["name"],
        uid=fields["uid"],
        type="Warning" if reason == "Failed" else "Normal",
        reason=reason,
        message=fields.get("message", "attempt 1"),
    )


class Contract:
    """What every sink does; a subclass gives the fixtures ``sink`` and ``clock``."""

    def test_an_event_is_read_back(self, sink: Sink, clock: fake_clock.FakeClock) -> None:
        sink.emit(event("Failed"))
        assert list(sink.events("default")) == [
            EventView(
                kind="Trial",
                namespace="default",
                name="digits-t0",
                uid="u1",
                type="Warning",
                reason="Failed",
                message="attempt 1",
                count=1,
                first_time=clock.now(),
                last_time=clock.now(),
            )
        ]

    def test_equal_events_are_counted_and_come_first_again(
        self, sink: Sink, clock: fake_clock.FakeClock
    ) -> None:
        sink.emit(event())
        clock.sleep(5)
        sink.emit(event("Running"))
        clock.sleep(5)
        sink.emit(event())
        first, second = sink.events("default")
        assert (first.reason, first.count, second.reason) == ("Started", 2, "Running")
        assert first.last_time - first.first_time == 10

    @pytest.mark.parametrize(
        "other",
        [
            event(uid="u2"),
            event(message="attempt 2"),
            event("Running"),
            event(name="cats-t0"),
            event(kind="Experiment"),
        ],
    )
    def test_events_that_differ_are_kept_apart(self, sink: Sink, other: runplan.Event) -> None:
        sink.emit(event())
        sink.emit(other)
        assert [view.count for view in sink.events("default")] == [1, 1]

    def test_reading_filters_and_limits(self, sink: Sink) -> None:
        for wanted in (
            event("A"),
            event("B", kind="Experiment", name="digits"),
            event("C", namespace="other"),
            event("D"),
        ):
            sink.emit(wanted)
        assert [view.reason for view in sink.events("default")] == ["D", "B", "A"]
        assert [view.reason for view in sink.events("default", kind="Trial")] == ["D", "A"]
        assert [view.reason for view in sink.events("default", name="digits")] == ["B"]
        assert [view.reason for view in sink.events("default", limit=1)] == ["D"]
        assert [view.reason for view in sink.events("other")] == ["C"]
        assert list(sink.events("nowhere")) == []

    def test_threads_count_exactly(self, sink: Sink) -> None:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _n: sink.emit(event()), range(40)))
        assert [view.count for view in sink.events("default")] == [40]
