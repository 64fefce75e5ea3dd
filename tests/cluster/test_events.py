"""EventSink on the Events of a cluster keeps the contract, on a real API server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from quintile.adapters import client_kube, events_kube
from quintile.core import runplan
from quintile.core.events import EventView
from quintile.testing import clock as fake_clock
from quintile.testing import clusters
from quintile.testing.event_contract import Contract, Sink, event

NAMES = ("default", "nowhere", "other")
Rows = tuple[client_kube.KubeClient, dict[str, str]]


@pytest.fixture(scope="module")
def place() -> Iterator[Rows]:
    kube = clusters.client()
    with clusters.namespaces(kube, *NAMES) as names:
        yield kube, dict(zip(NAMES, names, strict=True))


@pytest.fixture
def clock() -> fake_clock.FakeClock:
    return fake_clock.FakeClock()


class Renamed:
    """A sink whose namespaces have other names underneath."""

    def __init__(self, sink: events_kube.KubeEventSink, names: dict[str, str]) -> None:
        self.sink = sink
        self.names = names

    def emit(self, said: runplan.Event) -> None:
        fields = {**vars(said), "namespace": self.names[said.namespace]}
        self.sink.emit(runplan.Event(**fields))

    def events(
        self, namespace: str, *, kind: str = "", name: str = "", limit: int = 100
    ) -> Sequence[EventView]:
        found = self.sink.events(self.names[namespace], kind=kind, name=name, limit=limit)
        return [view.model_copy(update={"namespace": namespace}) for view in found]


@pytest.fixture
def sink(place: Rows, clock: fake_clock.FakeClock) -> Sink:
    kube, names = place
    for name in names.values():
        kube.delete(f"/api/v1/namespaces/{name}/events")
    return Renamed(events_kube.KubeEventSink(kube, clock, "quintile-tests"), names)


class TestKube(Contract):
    """The suite that the fake and the rows keep."""


def test_a_restart_goes_on_counting(place: Rows, sink: Sink, clock: fake_clock.FakeClock) -> None:
    sink.emit(event())
    sink.emit(event())
    again = Renamed(events_kube.KubeEventSink(place[0], clock, "quintile-tests"), place[1])
    again.emit(event())
    assert [view.count for view in again.events("default")] == [3]


def test_an_event_that_the_cluster_forgot_is_written_again(place: Rows, sink: Sink) -> None:
    sink.emit(event())
    place[0].delete(f"/api/v1/namespaces/{place[1]['default']}/events")
    sink.emit(event())
    assert [view.count for view in sink.events("default")] == [1]


def test_a_message_of_any_length_is_kept_short(sink: Sink) -> None:
    sink.emit(event(message="ä" * 5000))
    message = sink.events("default")[0].message
    assert message.endswith("…")
    assert len(message.encode()) <= events_kube.MESSAGE_BYTES
