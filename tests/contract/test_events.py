"""EventSink: the fake and the SQL sink keep the contract, and read as the API reads."""

from __future__ import annotations

import pathlib

import pytest

from quintile.adapters import events_sql, sql
from quintile.testing import clock as fake_clock
from quintile.testing import databases
from quintile.testing import events as fake_events
from quintile.testing.event_contract import Contract, Sink, event
from quintile_api import eventlog


@pytest.fixture
def clock() -> fake_clock.FakeClock:
    return fake_clock.FakeClock()


class TestFake(Contract):
    @pytest.fixture
    def sink(self, clock: fake_clock.FakeClock) -> Sink:
        return fake_events.FakeEventSink(clock=clock)


class TestSql(Contract):
    @pytest.fixture
    def sink(self, tmp_path: pathlib.Path, clock: fake_clock.FakeClock) -> Sink:
        return opened(tmp_path / "events.db", clock)


def opened(path: pathlib.Path, clock: fake_clock.FakeClock) -> events_sql.SqlEventSink:
    database = sql.Database(sql.create_engine(databases.at(path)))
    return events_sql.SqlEventSink(database, clock=clock)


def test_events_survive_a_restart(tmp_path: pathlib.Path, clock: fake_clock.FakeClock) -> None:
    opened(tmp_path / "e.db", clock).emit(event())
    again = opened(tmp_path / "e.db", clock)
    again.emit(event())
    assert [view.count for view in again.events("default")] == [2]


def test_only_the_newest_rows_stay(
    tmp_path: pathlib.Path, clock: fake_clock.FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_sql, "KEEP", 10)
    monkeypatch.setattr(events_sql, "PRUNE_EVERY", 5)
    sink = opened(tmp_path / "e.db", clock)
    for number in range(20):
        sink.emit(event(message=f"number {number}"))
    assert [view.message for view in sink.events("default")][-1] == "number 10"


def test_a_message_of_any_length_is_kept_short(
    tmp_path: pathlib.Path, clock: fake_clock.FakeClock
) -> None:
    sink = opened(tmp_path / "e.db", clock)
    sink.emit(event(message="x" * 5000))
    assert len(sink.events("default")[0].message) == events_sql.MESSAGE_LIMIT


def test_the_api_can_read_them(tmp_path: pathlib.Path, clock: fake_clock.FakeClock) -> None:
    logs: list[eventlog.EventLog] = [
        opened(tmp_path / "e.db", clock),
        fake_events.FakeEventSink(clock=clock),
    ]
    assert [list(log.events("default")) for log in logs] == [[], []]
