"""How sure a prediction is: intervals of 90 %, from redrawn measurements and from held-out errors.

A band holds what the calibration knows about itself. It knows nothing of what a larger cluster adds
and this machine does not have: other tenants of a network, slow hosts, shared storage.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quintile.core.scaling import records

DRAWS = 40
_TAIL = 0.05
_NORMAL_95 = 1.645


@dataclass(frozen=True)
class Band:
    """An interval of images per second."""

    low: float
    high: float


def bands(
    calibration: records.Calibration,
    rates: Callable[[records.Calibration], Sequence[float]],
    *,
    error: float,
    seed: int = 0,
) -> tuple[Band, ...]:
    """Return one band for each rate.

    Args:
        calibration: What was measured.
        rates: Predicts images per second from a calibration.
        error: Typical relative error on held-out runs (root of the mean square).
        seed: Of the draws.
    """
    best = rates(calibration)
    chance = random.Random(seed)
    drawn = [rates(redrawn(calibration, chance)) for _ in range(DRAWS)]
    found = []
    for place, rate in enumerate(best):
        logs = sorted(math.log(one[place] / rate) for one in drawn)
        low, high = _at(logs, _TAIL), _at(logs, 1 - _TAIL)
        model = _NORMAL_95 * error
        found.append(
            Band(
                low=rate * math.exp(-math.hypot(min(low, 0.0), model)),
                high=rate * math.exp(math.hypot(max(high, 0.0), model)),
            )
        )
    return tuple(found)


def redrawn(calibration: records.Calibration, chance: random.Random) -> records.Calibration:
    """Return a calibration whose every list of times is drawn anew from itself."""
    steps = []
    for run in calibration.steps:
        changes = {
            name: chance.choices(times, k=len(times))
            for name, times in (("times_s", run.times_s), ("cpu_s", run.cpu_s))
            if times
        }
        steps.append(run.model_copy(update=changes))
    sums = [
        run.model_copy(update={"times_s": chance.choices(run.times_s, k=len(run.times_s))})
        for run in calibration.sums
    ]
    return calibration.model_copy(update={"steps": steps, "sums": sums})


def _at(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
