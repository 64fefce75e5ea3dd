"""How far off the model is on runs that it was not fitted to.

Steps that sum gradients (way ``ddp``) are never fitted: the model is made of steps alone, steps
apart, and bare sums. A sum is left out of its own fit in turn.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from quintile.core.scaling import collectives, fit, predict, records


@dataclass(frozen=True)
class Check:
    """One run: what was said, what was measured."""

    name: str
    predicted_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """Return the relative error; positive: it was said to take longer than it did."""
        return self.predicted_s / self.measured_s - 1


def steps(calibration: records.Calibration) -> tuple[Check, ...]:
    """Return a check for every run that sums gradients."""
    constants = fit.fit(calibration)
    found = []
    for run in calibration.steps:
        if run.way != "ddp":
            continue
        work = predict.work_of(calibration, run.profile, constants.host)
        cluster = predict.this_machine(constants, run.ranks)
        said = predict.step(work, cluster, predict.Plan(), run.ranks)
        measured_s = statistics.median(run.times_s)
        found.append(Check(f"{run.profile} x {run.ranks} workers", said.seconds, measured_s))
    return tuple(found)


def sums(calibration: records.Calibration) -> tuple[Check, ...]:
    """Return a check for every bare sum, each predicted from all others."""
    if len(calibration.sums) < 3:
        return ()
    host, add = fit.fit(calibration).host, calibration.add_bytes_per_s
    found = []
    for place, run in enumerate(calibration.sums):
        others = [*calibration.sums[:place], *calibration.sums[place + 1 :]]
        link = fit.link_of(others, host, add)
        sharing = host.sharing(run.ranks)
        bare_s = collectives.ring_s(run.size_bytes, run.ranks, link, add)
        name = f"sum of {run.size_bytes:,} bytes x {run.ranks} workers"
        found.append(Check(name, bare_s * sharing, statistics.median(run.times_s)))
    return tuple(found)


def typical(checks: Sequence[Check]) -> float:
    """Return the root of the mean square of the errors; 0 without any."""
    if not checks:
        return 0.0
    return math.sqrt(statistics.fmean(check.error**2 for check in checks))
