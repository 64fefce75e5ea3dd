"""Where the time of a rank goes: seconds by part, kept while it trains.

Standard library only; a step pays for six readings of the clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
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
    """What one run spent, from its beginning on, as rank 0 sees it.

    ``spent`` and ``training``, the seconds of whole steps, are of the steps that count: a restart
    takes up those of its checkpoint, so that what was done after it and is done again counts once.
    ``begun_s`` is when the run began, by the system's clock.
    """

    spent: Spent = field(default_factory=Spent)
    training: float = 0.0
    begun_s: float = field(default_factory=time.time)
    _steps: int = 0
    _before: dict[str, float] = field(default_factory=dict)

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from what a checkpoint holds; one of an earlier release holds nothing."""
        known = {part.name: float(state.get(part.name, 0.0)) for part in fields(Spent)}
        self.spent = Spent(**known)
        self.training = float(state.get("training", 0.0))
        self._before = self.spent.seconds()

    def state(self) -> dict[str, float]:
        """Return what a checkpoint holds of this."""
        return {"training": self.training, **self.spent.seconds()}

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

    def goodput(self) -> float:
        """Return the share of the time since the run began in which steps that count were done."""
        return min(1.0, self.training / max(self._elapsed_s(), 1e-9))

    def document(self) -> dict[str, object]:
        """Return the whole as JSON.

        ``lost_seconds`` is what is left of the time without steps, checkpoints and evaluation:
        starts, restarts, what was done again after them, and waiting.
        """
        elapsed_s = self._elapsed_s()
        known_s = self.training + self.spent.checkpoint + self.spent.evaluation
        return {
            "seconds": {name: round(value, 6) for name, value in self.spent.seconds().items()},
            "training_seconds": round(self.training, 6),
            "elapsed_seconds": round(elapsed_s, 6),
            "lost_seconds": round(max(0.0, elapsed_s - known_s), 6),
            "goodput": round(self.goodput(), 4),
        }

    def _elapsed_s(self) -> float:
        return time.time() - self.begun_s

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
