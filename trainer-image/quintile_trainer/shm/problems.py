"""Why ranks that share memory cannot go on; the messages are for people."""

from __future__ import annotations

from quintile_trainer import failures


class LateRank(failures.PeerLost):
    """A rank did not come in time, or left.

    Attributes:
        rank: The one that was waited for.
    """

    def __init__(self, rank: int, message: str) -> None:
        super().__init__(message)
        self.rank = rank


class NotOneHost(failures.BadInput):
    """The ranks do not see one memory: they run on several hosts, or in separate containers.

    Attributes:
        rank: The one that found out.
    """

    def __init__(self, rank: int, message: str) -> None:
        super().__init__(message)
        self.rank = rank


class Mismatch(failures.RankFailure):
    """The ranks asked for different sums at the same time."""


class NoMemory(failures.RankFailure):
    """The shared memory does not fit."""

    reason = "OutOfMemory"
