"""In which order samples are seen: a pure function of (seed, epoch, position).

Nothing is shuffled in memory: a keyed permutation answers in constant time which item stands at a
position, so that resuming is exact and free, with any number of ranks. Standard library only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

ROUNDS = 6
_MASK = 2**64 - 1


class Permutation:
    """A permutation of 0 .. size-1, by a Feistel network with cycle walking.

    Args:
        size: How many items, at least 1.
        seed: Any integer.
        epoch: Another permutation for each.
    """

    def __init__(self, size: int, *, seed: int, epoch: int) -> None:
        if size < 1:
            raise ValueError(f"a permutation needs at least one item, got {size}")
        self._size = size
        half = max(1, ((size - 1).bit_length() + 1) // 2)
        self._half = half
        self._low = (1 << half) - 1
        self._keys = _keys(seed, epoch)

    def __getitem__(self, position: int) -> int:
        """Return the item at a position.

        Raises:
            IndexError: The position is outside of the epoch.
        """
        if not 0 <= position < self._size:
            raise IndexError(f"position {position} is outside of 0 .. {self._size - 1}")
        value = position
        while True:
            # The network permutes a power of four that is under 4 x size + 4, so that walking on
            # from values beyond the end takes few steps, and ends since the walk is a cycle.
            value = self._mix(value)
            if value < self._size:
                return value

    def _mix(self, value: int) -> int:
        left, right = value >> self._half, value & self._low
        for key in self._keys:
            left, right = right, left ^ (_hash(right, key) & self._low)
        return (left << self._half) | right


@dataclass(frozen=True)
class Cursor:
    """A place in training: epoch, and position of the next sample in it."""

    epoch: int
    position: int


@dataclass(frozen=True)
class Schedule:
    """Which positions a global step covers.

    ``items`` in an epoch, ``batch`` = samples of a whole global step (fixed at submission). The
    last step of an epoch covers what is left.
    """

    items: int
    batch: int

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of global steps in an epoch."""
        return -(-self.items // self.batch)

    def cursor(self, step: int) -> Cursor:
        """Return where global step ``step`` (from 0) begins."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return Cursor(epoch, place * self.batch)

    def positions(self, step: int) -> range:
        """Return the positions of a global step within its epoch."""
        start = self.cursor(step).position
        return range(start, min(start + self.batch, self.items))

    def share(self, step: int, *, rank: int, world_size: int) -> range:
        """Return the positions of one rank: r, r + n, ... of the global batch; may be empty."""
        return self.positions(step)[rank::world_size]


@dataclass(frozen=True)
class Sampler:
    """Which items a rank takes, step by step."""

    schedule: Schedule
    seed: int

    def items(self, step: int, *, rank: int, world_size: int) -> list[int]:
        """Return the items (0 .. items-1) of a rank in a global step, in order."""
        epoch = self.schedule.cursor(step).epoch
        order = Permutation(self.schedule.items, seed=self.seed, epoch=epoch)
        share = self.schedule.share(step, rank=rank, world_size=world_size)
        return [order[position] for position in share]

    def seeds(self, step: int, *, rank: int, world_size: int) -> list[int]:
        """Return one 63-bit seed per sample, a function of (seed, epoch, position) alone."""
        epoch = self.schedule.cursor(step).epoch
        keys = _keys(self.seed ^ 0x5EED, epoch)
        share = self.schedule.share(step, rank=rank, world_size=world_size)
        return [_hash(position, keys[0]) >> 1 for position in share]


def blocks(items: int, size: int, *, rank: int, world_size: int) -> Iterator[range]:
    """Yield ranges that cover 0 .. items-1 once over all ranks, for evaluation."""
    starts = range(0, items, size)
    for start in starts[rank::world_size]:
        yield range(start, min(start + size, items))


def mix(*parts: int) -> int:
    """Return 63 bits that depend on all parts."""
    value = 0x9E3779B97F4A7C15
    for part in parts:
        value = _hash(part & _MASK, value)
    return value >> 1


def _keys(seed: int, epoch: int) -> tuple[int, ...]:
    digest = hashlib.shake_128(f"{seed}:{epoch}".encode()).digest(8 * ROUNDS)
    return tuple(
        int.from_bytes(digest[start : start + 8], "little") for start in range(0, len(digest), 8)
    )


def _hash(value: int, key: int) -> int:
    """Return 64 well-mixed bits (the finaliser of SplitMix64 over value and key)."""
    mixed = (value * 0x9E3779B97F4A7C15 + key) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)
