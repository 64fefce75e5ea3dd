"""The step counter that a rank shares with its agent: 24 bytes of a mapped file.

Writing costs about a microsecond, so that every step can be told. Standard library only.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

_LAYOUT = struct.Struct("<qqd")


class Counter:
    """The writing side; one per rank."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_LAYOUT.pack(-1, 0, time.time()))
        descriptor = os.open(path, os.O_RDWR)
        try:
            self._memory = mmap.mmap(descriptor, _LAYOUT.size)
        finally:
            os.close(descriptor)

    def set(self, step: int, total_steps: int) -> None:
        """Tell how many steps are done, and of how many (0 = unknown)."""
        _LAYOUT.pack_into(self._memory, 0, step, total_steps, time.time())


@dataclass(frozen=True)
class Mark:
    """What a counter holds: steps done, of how many, and when the rank said so."""

    step: int = -1
    total_steps: int = 0
    time_s: float = 0.0

    @property
    def is_there(self) -> bool:
        """Return whether the rank has a counter: its program runs."""
        return self.time_s > 0


def mark(path: Path) -> Mark:
    """Return what a rank last told; the default while it has not begun."""
    try:
        step, total_steps, time_s = _LAYOUT.unpack(path.read_bytes())
    except (OSError, struct.error):
        return Mark()
    return Mark(int(step), int(total_steps), float(time_s))


def read(path: Path) -> tuple[int, int]:
    """Return (step, total steps) of a rank; (-1, 0) while it has not begun."""
    found = mark(path)
    return found.step, found.total_steps
