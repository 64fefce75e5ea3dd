"""Which ranges of positions were given out, and which are part of the model. Pure; on server 0.

In ``ssp`` and ``async`` nobody waits for a common step, so positions are leased. A lease goes
through: given -> applied (server 0 has all its parts of the push) -> complete (all servers
acknowledged). A checkpoint takes applied and complete ones as done: the cut makes sure that a push
is in it on all servers or on none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Lease:
    """Positions ``start`` .. ``stop - 1``."""

    start: int
    stop: int


class Ledger:
    """Leases over positions 0 .. total - 1.

    Args:
        total: How many positions there are in the whole run.
        done: Ranges that an earlier generation finished.
        block: No lease crosses a multiple of it (an epoch's size); 0 for no such border.
    """

    def __init__(self, total: int, *, done: Iterable[Lease] = (), block: int = 0) -> None:
        self._total = total
        self._block = block
        self._done = {lease.start: lease.stop for lease in done}
        self._free = list(reversed(_holes(self._done, total)))
        self._given: dict[int, tuple[int, Lease]] = {}
        self._applied: set[int] = set()
        self._last: dict[int, tuple[int, Lease | None]] = {}
        self._closed = False

    def take(self, worker: int, request: int, size: int) -> Lease | None:
        """Give the first free positions, at most ``size``; None when none is left.

        Asking again with the same ``request`` number gives the same answer.
        """
        known = self._last.get(worker)
        if known is not None and known[0] == request:
            return known[1]
        lease = self._next(size) if not self._closed else None
        if lease is not None:
            self._given[lease.start] = (worker, lease)
        self._last[worker] = (request, lease)
        return lease

    def close(self) -> None:
        """Give out nothing more: the workers were asked to leave."""
        self._closed = True

    def apply(self, start: int) -> None:
        """Note that the push of a lease is applied here. Unknown starts are ignored."""
        if start in self._given:
            self._applied.add(start)

    def complete(self, start: int) -> None:
        """Note that all servers acknowledged the push of a lease; repeating it changes nothing."""
        found = self._given.pop(start, None)
        if found is not None:
            self._applied.discard(start)
            self._done[found[1].start] = found[1].stop

    def release(self, worker: int) -> None:
        """Take back what a worker that leaves was given and did not push."""
        for start, (owner, lease) in list(self._given.items()):
            if owner == worker and start not in self._applied:
                del self._given[start]
                self._free.append(lease)
        self._free.sort(key=lambda lease: lease.start, reverse=True)

    def finished(self) -> int:
        """Return how many positions are part of the model."""
        return sum(lease.stop - lease.start for lease in self._parts())

    def document(self) -> dict[str, Any]:
        """Return total and done ranges as JSON, for a checkpoint."""
        ranges = [[lease.start, lease.stop] for lease in joined(self._parts())]
        return {"total": self._total, "done": ranges}

    def _parts(self) -> list[Lease]:
        parts = [Lease(start, stop) for start, stop in self._done.items()]
        return parts + [self._given[start][1] for start in self._applied]

    def _next(self, size: int) -> Lease | None:
        if not self._free:
            return None
        hole = self._free.pop()
        stop = min(hole.start + size, hole.stop)
        if self._block:
            stop = min(stop, (hole.start // self._block + 1) * self._block)
        if stop < hole.stop:
            self._free.append(Lease(stop, hole.stop))
        return Lease(hole.start, stop)


def joined(leases: Iterable[Lease]) -> list[Lease]:
    """Return the same positions in as few ranges as possible, in order."""
    found: list[Lease] = []
    for lease in sorted(leases, key=lambda entry: entry.start):
        if found and lease.start <= found[-1].stop:
            found[-1] = Lease(found[-1].start, max(found[-1].stop, lease.stop))
        else:
            found.append(lease)
    return found


def _holes(done: dict[int, int], total: int) -> list[Lease]:
    """Return what is not done, in order."""
    holes = []
    reached = 0
    for lease in joined(Lease(start, stop) for start, stop in done.items()):
        if reached < lease.start:
            holes.append(Lease(reached, lease.start))
        reached = max(reached, lease.stop)
    if reached < total:
        holes.append(Lease(reached, total))
    return holes
