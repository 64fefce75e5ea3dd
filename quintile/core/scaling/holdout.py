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

LEAST_SUMS = 2
"""Two unknowns need as many sums."""


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
    found = []
    for run in calibration.steps:
        if run.way != "ddp":
            continue
        constants = fit.fit(calibration, run.profile)
        work = predict.work_of(calibration, run.profile)
        cluster = predict.calibrated(constants, run.per_host)
        said = predict.step(work, cluster, predict.Plan(), run.ranks)
        measured_s = fit.typical(calibration, run.times_s)
        found.append(Check(f"{run.profile}{_where(run)}", said.seconds, measured_s))
    return tuple(found)


def sums(calibration: records.Calibration) -> tuple[Check, ...]:
    """Return a check for every bare sum, each predicted from all others."""
    host, add = fit.fit(calibration).host, calibration.add_bytes_per_s
    found = []
    for place, run in enumerate(calibration.sums):
        left = [*calibration.sums[:place], *calibration.sums[place + 1 :]]
        alike = [one for one in left if (one.hosts > 1) == (run.hosts > 1)]
        if len(alike) < LEAST_SUMS:
            continue
        link = fit.link_of(alike, host, add)
        bare_s = collectives.ring_s(run.size_bytes, run.ranks, link, add)
        said_s = bare_s * host.sharing(run.per_host)
        name = f"sum of {run.size_bytes:,} bytes{_where(run)}"
        found.append(Check(name, said_s, fit.undisturbed(run.times_s)))
    return tuple(found)


def _where(run: records.StepRun | records.SumRun) -> str:
    hosts = f" on {run.hosts} hosts" if run.hosts > 1 else ""
    return f" x {run.ranks} workers{hosts}"


def typical(checks: Sequence[Check]) -> float:
    """Return the root of the mean square of the errors; 0 without any."""
    if not checks:
        return 0.0
    return math.sqrt(statistics.fmean(check.error**2 for check in checks))
