"""The chunks of one server: parameters, optimizer state, versions, and copies for a cut."""

from __future__ import annotations

import torch

from quintile_trainer.ps import layout, memory, optimizers, sums

MASTER = 0
"""Entry number of the parameters; the rule's own entries follow from 1."""


class Chunk:
    """One chunk at work. ``last`` holds the newest push of each worker that was taken."""

    __slots__ = ("about", "last", "rate", "state", "sum", "version", "wire")

    def __init__(
        self, about: layout.Chunk, rule: optimizers.Rule, *, workers: int, pool: memory.Pool
    ) -> None:
        self.about = about
        self.state = optimizers.State(
            master=torch.zeros(about.size),
            entries=tuple(torch.zeros(about.size) for _ in rule.entries),
            decay=rule.decays[about.group],
        )
        self.version = 0
        self.last = [0] * workers
        self.sum = sums.RankSum(workers, pool)
        self.rate = 0.0
        self.wire = memory.view(self.state.master) if about.dtype == "float32" else None

    def entry(self, number: int) -> torch.Tensor:
        """Return the parameters (``MASTER``) or a state tensor."""
        return self.state.master if number == MASTER else self.state.entries[number - 1]

    def bytes_to_send(self) -> memoryview:
        """Return the parameters as they travel; float32 is the live memory itself."""
        if self.wire is not None:
            return self.wire
        return memory.view(self.state.master.to(memory.DTYPES[self.about.dtype]))


class Store:
    """All chunks of one server, by number."""

    def __init__(
        self, plan: layout.Layout, rule: optimizers.Rule, *, server: int, workers: int
    ) -> None:
        self.pool = memory.Pool()
        self.rule = rule
        self.chunks = {
            about.number: Chunk(about, rule, workers=workers, pool=self.pool)
            for about in plan.of_server(server)
        }
        self._copies: dict[int, Copy] | None = None

    def begin(self, clock: int) -> None:
        """Start all clocks and versions at a checkpoint's clock."""
        for chunk in self.chunks.values():
            chunk.version = clock
            chunk.last = [clock] * len(chunk.last)

    def apply(self, chunk: Chunk, gradient: torch.Tensor, rate: float) -> None:
        """Update a chunk with an fp32 gradient, which is used up."""
        if self._copies is not None and chunk.about.number not in self._copies:
            self._copies[chunk.about.number] = Copy(chunk)
        optimizers.step(self.rule, chunk.state, gradient, rate)
        chunk.version += 1

    def snapshot(self) -> None:
        """Keep the state of this instant: a chunk is copied before it changes, or when read."""
        self._copies = {}

    def saved(self, number: int) -> Copy:
        """Return a chunk as it was at the snapshot."""
        assert self._copies is not None
        if number not in self._copies:
            self._copies[number] = Copy(self.chunks[number])
        return self._copies[number]

    def forget(self) -> None:
        """Drop the snapshot."""
        self._copies = None


class Copy:
    """A chunk at one instant."""

    def __init__(self, chunk: Chunk) -> None:
        state = chunk.state
        self.steps = state.steps
        self.fresh = state.fresh
        self._tensors = tuple(tensor.clone() for tensor in (state.master, *state.entries))

    def entry(self, number: int) -> memoryview:
        """Return the bytes of the parameters (``MASTER``) or of a state tensor."""
        return memory.view(self._tensors[number])
