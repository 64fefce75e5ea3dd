"""What workers on one host do to each other: they share processors and memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """One machine.

    Attributes:
        processors: How many may be used.
        threads: Threads of one worker.
        memory: How much slower each further worker makes all, though it has its own processors.
    """

    processors: float
    threads: int
    memory: float = 0.0

    @property
    def slots(self) -> int:
        """Return how many workers have processors of their own."""
        return max(1, int(self.processors // self.threads))

    def crowding(self, workers: int) -> float:
        """Return how many times longer a computation takes than alone."""
        beside = min(workers, self.slots) - 1
        return self.sharing(workers * self.threads) * (1 + self.memory * beside)

    def sharing(self, threads: int) -> float:
        """Return how many times longer threads take because they wait for processors."""
        return max(1.0, threads / self.processors)

    def spare(self, workers: int) -> bool:
        """Return whether every worker has a processor left that its threads do not use."""
        return self.sharing(workers * (self.threads + 1)) <= 1.0
