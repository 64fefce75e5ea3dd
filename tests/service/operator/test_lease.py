"""Leader election by simulated time: one leads, takeover is bounded, a stale holder stops first."""

from __future__ import annotations

import threading

import pytest

from quintile.adapters.lease_kube import Record
from quintile.core import errors
from quintile_operator import lease

TIMING = lease.Timing()


class Time:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeLeases:
    """One Lease in memory; ``away`` names candidates whose requests fail."""

    def __init__(self) -> None:
        self.record: Record | None = None
        self.writes = 0
        self.away = False

    def read(self) -> Record | None:
        if self.away:
            raise errors.Unavailable("no answer")
        return self.record

    def write(self, holder: str, *, lasts_s: float, before: Record | None) -> Record:
        if self.away:
            raise errors.Unavailable("no answer")
        if before != self.record:
            raise errors.Conflict("written meanwhile")
        self.writes += 1
        moved = before is not None and before.holder != holder
        self.record = Record(
            holder=holder,
            renewals=str(self.writes),
            lasts_s=lasts_s,
            transitions=(before.transitions if before else 0) + moved,
            version=str(self.writes),
        )
        return self.record


@pytest.fixture
def leases() -> FakeLeases:
    return FakeLeases()


@pytest.fixture
def time() -> Time:
    return Time()


def candidate(leases: lease.Leases, name: str, time: Time) -> lease.Elector:
    return lease.Elector(leases, identity=name, timing=TIMING, monotonic=time)


def test_the_first_one_leads_and_the_second_waits(leases: FakeLeases, time: Time) -> None:
    first, second = candidate(leases, "a", time), candidate(leases, "b", time)
    assert first.try_acquire()
    assert not second.try_acquire()
    assert (first.holds, second.holds) == (True, False)


def test_a_dead_holder_is_followed_within_twenty_seconds(leases: FakeLeases, time: Time) -> None:
    first, second = candidate(leases, "a", time), candidate(leases, "b", time)
    assert first.try_acquire()
    assert not second.try_acquire()
    time.now += 1.9
    first.renew()
    died = time.now
    while not second.try_acquire():
        time.now += TIMING.retry_s
        assert time.now - died <= 20
    assert leases.record is not None
    assert (leases.record.holder, leases.record.transitions) == ("b", 1)


def test_a_holder_that_cannot_renew_stops_before_another_begins(
    leases: FakeLeases, time: Time
) -> None:
    first, second = candidate(leases, "a", time), candidate(leases, "b", time)
    assert first.try_acquire()
    assert not second.try_acquire()
    alone = FakeLeases()
    alone.away = True
    first._leases = alone
    lost_s = began_s = 0.0
    while not (lost_s and began_s):
        time.now += 1.0
        if not lost_s:
            try:
                first.renew()
            except lease.Lost:
                lost_s = time.now
                assert not first.holds
        if not began_s and second.try_acquire():
            began_s = time.now
    assert lost_s < began_s


def test_a_short_absence_of_the_api_server_is_borne(leases: FakeLeases, time: Time) -> None:
    first = candidate(leases, "a", time)
    assert first.try_acquire()
    leases.away = True
    for _ in range(4):
        time.now += 2
        first.renew()
    leases.away = False
    first.renew()
    assert first.holds


def test_a_holder_that_hangs_in_a_request_holds_no_longer(leases: FakeLeases, time: Time) -> None:
    first = candidate(leases, "a", time)
    assert first.try_acquire()
    time.now += TIMING.renew_s
    assert not first.holds


def test_a_lease_that_another_took_is_lost_at_once(leases: FakeLeases, time: Time) -> None:
    first = candidate(leases, "a", time)
    assert first.try_acquire()
    leases.write("b", lasts_s=15, before=leases.record)
    with pytest.raises(lease.Lost, match="b holds"):
        first.renew()


def test_a_write_by_somebody_else_that_leaves_the_holder_is_borne(
    leases: FakeLeases, time: Time
) -> None:
    first = candidate(leases, "a", time)
    assert first.try_acquire()
    leases.write("a", lasts_s=15, before=leases.record)
    first.renew()
    first.renew()
    assert first.holds


def test_letting_go_lets_the_next_begin_at_once(leases: FakeLeases, time: Time) -> None:
    first, second = candidate(leases, "a", time), candidate(leases, "b", time)
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()
    first.release()
    assert second.try_acquire()


def test_letting_go_leaves_the_lease_of_another_alone(leases: FakeLeases, time: Time) -> None:
    first, second = candidate(leases, "a", time), candidate(leases, "b", time)
    assert first.try_acquire()
    assert not second.try_acquire()
    time.now += 16
    assert second.try_acquire()
    first.release()
    assert leases.record is not None
    assert leases.record.holder == "b"


def test_one_of_two_that_come_together_wins(leases: FakeLeases, time: Time) -> None:
    first, second = candidate(leases, "a", time), candidate(leases, "b", time)
    assert [first.try_acquire(), second.try_acquire()] == [True, False]
    time.now += 60
    assert not second.try_acquire() or not first.holds


def test_waiting_ends_when_asked(leases: FakeLeases, time: Time) -> None:
    leases.write("other", lasts_s=15, before=None)
    stopped = threading.Event()
    stopped.set()
    assert not candidate(leases, "a", time).acquire(stopped)
