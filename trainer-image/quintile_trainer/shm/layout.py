"""Where everything lies in the shared memory, and how tensors are cut. Pure.

The memory begins with words of 8 bytes: a head that all ranks compare, then one block per rank
that only this rank writes. Counters that others wait for have a pair of cache lines each, so that a
rank that looks at one is not disturbed by writes to another. The slots follow: one per rank and
bank.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from quintile_trainer.shm import settings as settings_module

WORD: Final = 8
LINE: Final = 128
"""Two cache lines: processors fetch them in pairs."""
MAGIC: Final = 0x51_53_48_4D_00_00_00_01
_COUNTERS: Final = ("posted", "reduced", "taken", "awaits", "state", "nonce")
_DESCRIPTION_WORDS: Final = 2

Span = tuple[int, int]
"""First element, and the one after the last."""


@dataclass(frozen=True)
class Layout:
    """Offsets for a number of ranks and given settings. Words are numbered, slots are in bytes."""

    world_size: int
    banks: int
    piece_bytes: int
    direct_bytes: int

    @property
    def head(self) -> tuple[int, ...]:
        """Return the first words: what all ranks must agree on."""
        return (MAGIC, self.world_size, self.piece_bytes, self.banks, self.direct_bytes)

    @property
    def block_words(self) -> int:
        """Return the words of one rank's block."""
        descriptions = _up(self.banks * _DESCRIPTION_WORDS * WORD, LINE)
        return (len(_COUNTERS) * LINE + descriptions) // WORD

    def counter(self, name: str, rank: int) -> int:
        """Return the number of a rank's word: posted, reduced, taken, awaits, state or nonce."""
        return self._block(rank) + _COUNTERS.index(name) * LINE // WORD

    def description(self, rank: int, bank: int) -> int:
        """Return the number of the two words that say what a rank put into a bank."""
        first = self._block(rank) + len(_COUNTERS) * LINE // WORD
        return first + bank * _DESCRIPTION_WORDS

    @property
    def words(self) -> int:
        """Return the number of words before the slots."""
        return self.slots // WORD

    @property
    def slots(self) -> int:
        """Return the offset of the first slot."""
        return _up(self._block(self.world_size) * WORD, settings_module.ALIGNMENT)

    def slot(self, rank: int, bank: int) -> int:
        """Return the offset of a rank's slot in a bank."""
        return self.slots + (rank * self.banks + bank) * self.piece_bytes

    @property
    def size_bytes(self) -> int:
        """Return the size of the whole."""
        return self.slot(self.world_size, 0)

    def is_direct(self, size_bytes: int) -> bool:
        """Return whether every rank sums a whole piece of this size by itself.

        Two ranks always do: it moves about as many bytes as shares do, with one wait less.
        """
        return self.world_size == 2 or size_bytes <= self.direct_bytes

    def _block(self, rank: int) -> int:
        return LINE // WORD + rank * self.block_words


def plan_layout(world_size: int, given: settings_module.Settings) -> Layout:
    """Return the layout for so many ranks."""
    return Layout(world_size, given.banks, given.piece_bytes, given.direct_bytes)


def pieces(elements: int, itemsize: int, piece_bytes: int) -> Iterator[Span]:
    """Yield the spans in which a tensor is summed, in order; nothing for an empty one."""
    step = piece_bytes // itemsize
    for start in range(0, elements, step):
        yield start, min(start + step, elements)


def shares(elements: int, itemsize: int, world_size: int) -> tuple[Span, ...]:
    """Return the span of a piece that each rank sums: in order, gapless, cut at cache lines.

    The last ranks of a small piece may have an empty one.
    """
    unit = max(1, LINE // itemsize)
    units = -(-elements // unit)
    even, more = divmod(units, world_size)
    spans: list[Span] = []
    start = 0
    for rank in range(world_size):
        stop = min(start + (even + (rank < more)) * unit, elements)
        spans.append((start, stop))
        start = stop
    return tuple(spans)


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
