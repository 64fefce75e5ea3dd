"""In which order samples are seen: a pure function of (seed, epoch, position).

Nothing is shuffled: a keyed permutation answers in constant time and memory which item stands at a
position, so that resuming is exact and free, with any number of ranks. Arithmetic is modulo 2^64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ROUNDS = 6
BLOCK = 8192
"""Positions that a sampler works out at once, since many cost little more than one."""
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_SEEDS = 0x5EED
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
        self._half = np.uint64(half)
        self._low = np.uint64((1 << half) - 1)
        self._keys = _keys(seed, epoch)

    def items(self, positions: Ints) -> Ints:
        """Return the items [P] at some positions [P].

        Raises:
            IndexError: A position is outside of the epoch.
        """
        if len(positions) and not (positions.min() >= 0 and positions.max() < self._size):
            raise IndexError(f"positions outside of 0 .. {self._size - 1}")
        values = self._mix(positions.astype(np.uint64))
        # The network permutes a power of four that is under 4 x size + 4, so that walking on
        # from values beyond the end takes few steps, and ends since the walk is a cycle.
        while len(beyond := np.flatnonzero(values >= self._size)):
            values[beyond] = self._mix(values[beyond])
        return values.astype(np.int64)

    def _mix(self, values: Words) -> Words:
        left, right = values >> self._half, values & self._low
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

    def line(self, step: int) -> int:
        """Return how many positions of the whole run lie before a global step."""
        cursor = self.cursor(step)
        return cursor.epoch * self.items + cursor.position

    def step_at(self, line: int) -> int:
        """Return how many global steps are whole when so many positions of the run are done."""
        epoch, position = divmod(line, self.items)
        return epoch * self.steps_per_epoch + position // self.batch

    def share(self, step: int, *, rank: int, world_size: int) -> range:
        """Return the positions of one rank: r, r + n, ... of the global batch; may be empty."""
        return self.positions(step)[rank::world_size]


@dataclass(frozen=True)
class Samples:
    """What a rank takes in a step: items [S] and one 63-bit seed [S] each; may be none.

    ``whole`` is the number of samples that all ranks take together.
    """

    items: Ints
    seeds: Ints
    whole: int


class Sampler:
    """Which items a rank takes, step by step. Not thread-safe: it keeps the newest block."""

    def __init__(self, schedule: Schedule, seed: int, *, rank: int, world_size: int) -> None:
        self.schedule = schedule
        self._steps_per_epoch = schedule.steps_per_epoch
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._epoch = -1
        self._start = 0
        self._items = self._seeds = np.empty(0, dtype=np.int64)

    def take(self, step: int) -> Samples:
        """Return this rank's samples of a global step, in order of position.

        A seed is a function of (seed, epoch, position) alone, whatever rank takes the sample.
        """
        schedule = self.schedule
        epoch, place = divmod(step, self._steps_per_epoch)
        start = place * schedule.batch
        stop = min(start + schedule.batch, schedule.items)
        found = self.between(epoch, range(start, stop))
        if self._world_size == 1:
            return found
        mine = slice(self._rank, None, self._world_size)
        return Samples(found.items[mine], found.seeds[mine], whole=found.whole)

    def between(self, epoch: int, whole: range) -> Samples:
        """Return the samples at positions in a row within an epoch, whatever our rank."""
        first, last = whole.start - self._start, whole.stop - self._start
        if epoch != self._epoch or first < 0 or last > len(self._items):
            self._work_out(epoch, whole)
            first, last = 0, len(whole)
        return Samples(self._items[first:last], self._seeds[first:last], whole=len(whole))

    def _work_out(self, epoch: int, whole: range) -> None:
        stop = min(max(whole.stop, whole.start + BLOCK), self.schedule.items)
        positions = np.arange(whole.start, stop, dtype=np.int64)
        order = Permutation(self.schedule.items, seed=self._seed, epoch=epoch)
        self._items = order.items(positions)
        key = _keys(self._seed ^ _SEEDS, epoch)[0]
        self._seeds = (_hash(positions.astype(np.uint64), key) >> np.uint64(1)).astype(np.int64)
        self._epoch, self._start = epoch, whole.start


def blocks(items: int, size: int, *, rank: int, world_size: int) -> Iterator[range]:
    """Yield ranges that cover 0 .. items-1 once over all ranks, for evaluation."""
    starts = range(0, items, size)
    for start in starts[rank::world_size]:
        yield range(start, min(start + size, items))


def mix(*parts: int) -> int:
    """Return 63 bits that depend on all parts."""
    value = 0x9E3779B97F4A7C15
    for part in parts:
        # The finaliser of SplitMix64, as in _hash, on Python's integers.
        mixed = ((part & _MASK) * 0x9E3779B97F4A7C15 + value) & _MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        value = mixed ^ (mixed >> 31)
    return value >> 1


def draws(seeds: Ints) -> Words:
    """Return 64 random bits [S] for each seed [S]."""
    return _hash(seeds.astype(np.uint64), _GOLDEN)


def _keys(seed: int, epoch: int) -> Words:
    digest = hashlib.shake_128(f"{seed}:{epoch}".encode()).digest(8 * ROUNDS)
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def _hash(values: Words, key: np.uint64) -> Words:
    """Return 64 well-mixed bits for each value (the finaliser of SplitMix64 over value and key)."""
    mixed = values * _GOLDEN + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))
