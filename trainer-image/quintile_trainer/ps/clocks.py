"""How far each worker is, on one server. Pure: no time, no sockets.

Push number q of a worker (its step + 1) is *begun* once a chunk of it was let in, and *complete*
once all chunks of this server were. A worker's clock is its last complete push.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Clocks:
    """The clocks of all workers of a generation.

    Args:
        workers: How many.
        parts: Chunks of this server; a push is complete after so many.
        start: Every worker's clock at first.
    """

    def __init__(self, workers: int, *, parts: int, start: int = 0) -> None:
        self._parts = max(1, parts)
        self._complete = [start] * workers
        self._begun = [start] * workers
        self._seen = [0] * workers
        self._retired: set[int] = set()

    @property
    def complete(self) -> tuple[int, ...]:
        """Return every worker's clock."""
        return tuple(self._complete)

    @property
    def begun(self) -> tuple[int, ...]:
        """Return the newest push of every worker of which any part was let in."""
        return tuple(self._begun)

    def expects(self, worker: int, number: int) -> bool:
        """Return whether push ``number`` is the one to come, or the one under way."""
        return number == self._complete[worker] + 1

    def note(self, worker: int, number: int) -> bool:
        """Count one part of a push; return whether it is complete now.

        The caller counts no part twice (``Chunk.last``).
        """
        self._begun[worker] = number
        self._seen[worker] += 1
        if self._seen[worker] < self._parts:
            return False
        self._seen[worker] = 0
        self._complete[worker] = number
        return True

    def retire(self, worker: int) -> None:
        """Note that a worker pushes no more; nobody waits for it."""
        self._retired.add(worker)

    def is_retired(self, worker: int) -> bool:
        """Return whether a worker said that it pushes no more."""
        return worker in self._retired

    def slowest(self) -> int | None:
        """Return the smallest clock of those that still push; None when none does."""
        return min((self._complete[worker] for worker in self._active()), default=None)

    def behind(self, number: int) -> tuple[int, ...]:
        """Return who still pushes and has not completed push ``number``."""
        return tuple(worker for worker in self._active() if self._complete[worker] < number)

    def may_read(self, clock: int, bound: int | None) -> bool:
        """Return whether a worker with this clock may go on; ``bound`` None means without one."""
        slowest = self.slowest()
        return bound is None or slowest is None or clock - slowest <= bound

    def reached(self, targets: Sequence[int]) -> bool:
        """Return whether every worker that still pushes has completed its target."""
        return all(self._complete[worker] >= targets[worker] for worker in self._active())

    def _active(self) -> Iterable[int]:
        return (w for w in range(len(self._complete)) if w not in self._retired)


class Cut:
    """A cut under way on one server: which pushes belong to it, and which must wait.

    ``limits`` holds the last push of each worker that is let in; ``targets`` the last that belongs
    to the cut, None until it is named everywhere. Pushes beyond the limit are held, not refused.
    """

    def __init__(self, limits: Sequence[int]) -> None:
        self.limits = tuple(limits)
        self.targets: tuple[int, ...] | None = None
        self.taken = False

    def name(self, targets: Sequence[int]) -> None:
        """Fix what belongs to the cut; all servers are told the same."""
        self.targets = tuple(targets)
        self.limits = self.targets

    def admits(self, worker: int, number: int) -> bool:
        """Return whether a push may be let in now."""
        return self.taken or number <= self.limits[worker]

    def is_due(self, clocks: Clocks) -> bool:
        """Return whether the snapshot is to be taken now."""
        return not self.taken and self.targets is not None and clocks.reached(self.targets)


def merge(vectors: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Return the element-wise maximum: what any server let in, all must let in."""
    return tuple(max(column) for column in zip(*vectors, strict=True))
