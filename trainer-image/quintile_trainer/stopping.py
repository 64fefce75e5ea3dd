"""How ranks agree to stop at the same step.

Any rank may be asked to leave at any moment, but all must save the state of one step. They compare
notes every few steps, so rarely that it costs nothing and so often that it takes about a quarter of
a second: the interval itself is agreed on, from the slowest rank's pace.
"""

from __future__ import annotations

import signal
import time
from typing import Any

import torch

from quintile_trainer import modes

PATIENCE_S = 0.25
LONGEST_INTERVAL = 50


class StopSignal:
    """Remembers that SIGTERM came. Made in the main thread."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._on_term)

    def _on_term(self, _number: int, _frame: Any) -> None:
        self.asked = True


class StopAgreement:
    """Asks all ranks, at steps that all ranks know."""

    def __init__(self, wish: StopSignal, mode: modes.Mode, *, first_step: int) -> None:
        self._wish = wish
        self._mode = mode
        self._next = first_step + 1
        self._since_step = first_step
        self._since = time.monotonic()

    def reached(self, step: int) -> bool:
        """Return whether all ranks stop after ``step`` completed steps."""
        if self._mode.world_size == 1:
            return self._wish.asked
        if step < self._next:
            return False
        pace = (time.monotonic() - self._since) / max(1, step - self._since_step)
        wish = max(1, min(LONGEST_INTERVAL, int(PATIENCE_S / max(pace, 1e-6))))
        # The slowest rank wants the shortest interval: negated, the maximum is the minimum.
        notes = torch.tensor([float(self._wish.asked), -float(wish)], dtype=torch.float64)
        notes = self._mode.highest(notes)
        self._next = step + int(-notes[1])
        self._since_step, self._since = step, time.monotonic()
        return bool(notes[0] > 0)
