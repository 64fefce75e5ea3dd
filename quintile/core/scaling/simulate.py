"""Steps played one by one: workers that may run ahead of each other, and slow ones among them.

For what has no closed form: stale parameters (``ssp``, ``async``) under passing or lasting
slowness. The same seed gives the same run.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """How long a worker's step takes.

    Attributes:
        step_s: Median.
        jitter: Standard deviation of its logarithm.
        slow_chance: How often a step is slow.
        slow_factor: How many times longer it takes then.
        always_slow: Workers (the first ones) whose every step is slow.
    """

    step_s: float
    jitter: float = 0.0
    slow_chance: float = 0.0
    slow_factor: float = 1.0
    always_slow: int = 0

    def draw(self, worker: int, chance: random.Random) -> float:
        """Return the length of one step."""
        seconds = self.step_s
        if self.jitter:
            seconds *= math.exp(chance.gauss(0.0, self.jitter))
        slow = worker < self.always_slow or (
            self.slow_chance > 0 and chance.random() < self.slow_chance
        )
        return seconds * self.slow_factor if slow else seconds


@dataclass(frozen=True)
class Played:
    """What came of it: steps of all workers per second, and the seconds it took."""

    steps_per_s: float
    seconds: float


def play(pace: Pace, *, workers: int, steps: int, ahead: int | None, seed: int = 0) -> Played:
    """Play ``workers * steps`` steps.

    Args:
        pace: Of every worker.
        workers: How many.
        steps: Of one worker on average; shared out to whoever is ready when nobody must wait.
        ahead: How many steps a worker may be ahead of the slowest; 0 = all step together, None =
            nobody waits.
        seed: Of all draws.
    """
    chance = random.Random(seed)
    if ahead is None:
        seconds = _free(pace, workers, workers * steps, chance)
    elif ahead == 0:
        seconds = sum(
            max(pace.draw(worker, chance) for worker in range(workers)) for _ in range(steps)
        )
    else:
        seconds = _bounded(pace, workers, steps, ahead, chance)
    return Played(workers * steps / seconds, seconds)


def _free(pace: Pace, workers: int, total: int, chance: random.Random) -> float:
    ends = [(pace.draw(worker, chance), worker) for worker in range(workers)]
    heapq.heapify(ends)
    now = 0.0
    for _ in range(total):
        now, worker = ends[0]
        heapq.heapreplace(ends, (now + pace.draw(worker, chance), worker))
    return now


def _bounded(pace: Pace, workers: int, steps: int, ahead: int, chance: random.Random) -> float:
    """Return when the last step ends; step k begins once all have ended step k - ahead - 1.

    ``everybody[k]`` is when the slowest ended step k.
    """
    ends = [0.0] * workers
    everybody: list[float] = []
    for number in range(steps):
        gate = everybody[number - ahead - 1] if number > ahead else 0.0
        ends = [max(end, gate) + pace.draw(worker, chance) for worker, end in enumerate(ends)]
        everybody.append(max(ends))
    return everybody[-1]
