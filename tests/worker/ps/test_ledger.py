"""Leases: every position exactly once, through any order of calls, repeats, and restarts."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quintile_trainer.ps import ledger, staleness

TOTAL = 60
WORKERS = 3


class Leasing(RuleBasedStateMachine):
    """Workers lease, push and die; servers restart from the newest cut."""

    def __init__(self) -> None:
        super().__init__()
        self.book = ledger.Ledger(TOTAL, block=25)
        self.requests = [0] * WORKERS
        self.holding: dict[int, ledger.Lease] = {}
        self.applied: list[int] = []

    @rule(worker=st.integers(0, WORKERS - 1), size=st.integers(1, 9))
    def take(self, worker: int, size: int) -> None:
        if worker in self.holding:
            return
        self.requests[worker] += 1
        lease = self.book.take(worker, self.requests[worker], size)
        assert self.book.take(worker, self.requests[worker], size) == lease
        if lease is None:
            return
        assert 1 <= lease.stop - lease.start <= size
        assert lease.start // 25 == (lease.stop - 1) // 25
        self.holding[worker] = lease

    @precondition(lambda self: self.holding)
    @rule(data=st.data(), told=st.booleans())
    def push(self, data: st.DataObject, told: bool) -> None:
        worker = data.draw(st.sampled_from(sorted(self.holding)))
        lease = self.holding.pop(worker)
        self.book.apply(lease.start)
        self.applied.extend(range(lease.start, lease.stop))
        if told:
            self.book.complete(lease.start)
            self.book.complete(lease.start)

    @rule(worker=st.integers(0, WORKERS - 1))
    def leave(self, worker: int) -> None:
        self.book.release(worker)
        self.holding.pop(worker, None)

    @rule()
    def restart(self) -> None:
        done = [ledger.Lease(*pair) for pair in self.book.document()["done"]]
        self.book = ledger.Ledger(TOTAL, done=done, block=25)
        self.holding.clear()

    @invariant()
    def nothing_is_applied_twice(self) -> None:
        assert len(set(self.applied)) == len(self.applied)
        assert self.book.finished() == len(self.applied)

    @invariant()
    def what_is_held_is_not_applied(self) -> None:
        held = [p for lease in self.holding.values() for p in range(lease.start, lease.stop)]
        assert len(set(held)) == len(held)
        assert not set(held) & set(self.applied)

    def teardown(self) -> None:
        for worker in range(WORKERS):
            self.leave(worker)
        while True:
            self.requests[0] += 1
            lease = self.book.take(0, self.requests[0], 4)
            if lease is None:
                break
            self.book.complete(lease.start)
            self.applied.extend(range(lease.start, lease.stop))
        assert sorted(self.applied) == list(range(TOTAL))


TestLeasing = Leasing.TestCase
TestLeasing.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=20))
def test_joined_ranges_hold_the_same_positions(pairs: list[tuple[int, int]]) -> None:
    leases = [ledger.Lease(start, start + size) for start, size in pairs]
    found = ledger.joined(leases)
    positions = {p for lease in leases for p in range(lease.start, lease.stop)}
    assert {p for lease in found for p in range(lease.start, lease.stop)} == positions
    assert all(left.stop < right.start for left, right in zip(found, found[1:], strict=False))


def test_staleness_of_servers_adds_up() -> None:
    histograms = [staleness.Histogram(), staleness.Histogram()]
    for value in (0, 0, 3, 10_000, -1):
        histograms[0].note(value)
    histograms[1].note(3)
    merged = staleness.merged(histogram.document() for histogram in histograms)
    assert merged == {0: 3, 3: 2, staleness.LIMIT: 1}
    assert staleness.mean({0: 3, 3: 1}) == 0.75
    assert staleness.mean({}) == 0.0


def test_a_closed_ledger_gives_nothing_more_and_keeps_what_is_on_its_way() -> None:
    book = ledger.Ledger(10)
    given_before = book.take(0, 1, 4)
    assert given_before == ledger.Lease(0, 4)
    book.close()
    assert book.take(1, 1, 4) is None
    book.apply(0)
    book.complete(0)
    assert book.take(0, 2, 4) is None
    assert book.document() == {"total": 10, "done": [[0, 4]]}
