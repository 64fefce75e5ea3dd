"""The gradients of one step summed in rank order, whatever the order they come in.

Floating-point sums depend on their order: ``((g0 + g1) + g2) + ...`` is what a serial program does,
so it is done here, and n workers give bit for bit what one program gives.
"""

from __future__ import annotations

import torch

from quintile_trainer.ps import memory


class RankSum:
    """The sum for one chunk and step."""

    def __init__(self, workers: int, pool: memory.Pool) -> None:
        self._workers = workers
        self._pool = pool
        self._next = 0
        self._total: torch.Tensor | None = None
        self._held: memory.Buffer | None = None
        self._early: dict[int, memory.Buffer] = {}

    def add(self, worker: int, buffer: memory.Buffer) -> torch.Tensor | None:
        """Take a worker's gradient; return the mean over all workers once it was the last one.

        The mean is fp32 and good until ``clear``.
        """
        self._early[worker] = buffer
        while self._next in self._early:
            self._append(self._early.pop(self._next))
            self._next += 1
        if self._next < self._workers:
            return None
        assert self._total is not None
        return self._total.div_(self._workers) if self._workers > 1 else self._total

    def clear(self) -> None:
        """Begin anew, for the next step."""
        if self._held is not None:
            self._pool.give(self._held)
        self._next, self._total, self._held = 0, None, None

    def _append(self, buffer: memory.Buffer) -> None:
        if self._total is not None:
            self._total.add_(buffer.tensor)
            self._pool.give(buffer)
        elif buffer.tensor.dtype == torch.float32:
            self._total, self._held = buffer.tensor, buffer
        else:
            self._total = buffer.tensor.float()
            self._pool.give(buffer)
