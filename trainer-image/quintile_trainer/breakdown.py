"""Where the time of a rank goes: seconds by part, kept while it trains.

Standard library only; a step pays for six readings of the clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

PREFIX = "step/"
"""How the names of these metrics begin; the status of a run leaves them out."""


@dataclass
class Spent:
    """Seconds by part.

    ``communication`` is what is exposed: from the end of this rank's own backward pass until the
    sums over all ranks are there (in mode ps: until the servers' answer is). ``checkpoint`` is the
    stall of training, not the writing behind it.
    """

    data: float = 0.0
    forward: float = 0.0
    backward: float = 0.0
    communication: float = 0.0
    optimizer: float = 0.0
    checkpoint: float = 0.0
    evaluation: float = 0.0

    def seconds(self) -> dict[str, float]:
        """Return the seconds by name of the part."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


@dataclass
class Breakdown:
    """What one rank spent since it began to train; made when it begins."""

    spent: Spent = field(default_factory=Spent)
    begun: float = field(default_factory=time.perf_counter)
    _steps: int = 0
    _before: dict[str, float] = field(default_factory=dict)

    def step(self) -> None:
        """Count a finished step."""
        self._steps += 1

    def window(self) -> dict[str, float]:
        """Return the mean milliseconds of a step since the last call, as metrics by name."""
        now, steps = self.spent.seconds(), max(1, self._steps)
        means = {
            f"{PREFIX}{name}_ms": (seconds - self._before.get(name, 0.0)) / steps * 1000
            for name, seconds in now.items()
        }
        self._before, self._steps = now, 0
        return means

    def document(self, *, training_s: float) -> dict[str, object]:
        """Return the whole as JSON.

        ``goodput`` is the share of the time in which steps were computed: ``training_s``, the
        seconds of all steps, over the seconds since training began.
        """
        elapsed_s = time.perf_counter() - self.begun
        return {
            "seconds": {name: round(value, 6) for name, value in self.spent.seconds().items()},
            "elapsed_seconds": round(elapsed_s, 6),
            "goodput": round(min(1.0, training_s / max(elapsed_s, 1e-9)), 4),
        }

    @contextmanager
    def checkpoint(self) -> Iterator[None]:
        """Count the time of the block as stall of a checkpoint."""
        begun = time.perf_counter()
        yield
        self.spent.checkpoint += time.perf_counter() - begun

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Count the time of the block as evaluation."""
        begun = time.perf_counter()
        yield
        self.spent.evaluation += time.perf_counter() - begun
