"""From a calibration to the constants of the model. Pure.

Sums are fitted by least squares of relative errors, so that small ones count as much as large ones.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from quintile.core.scaling import collectives, hosts, records

NOTICEABLE = 1.03
"""Waiting for processors up to this factor is not told from noise."""
LARGEST_ADD_SHARE = 0.5
_QUARTILES_OF_NORMAL = 1.349


@dataclass(frozen=True)
class Constants:
    """What the model knows about one machine.

    ``jitter`` is the spread of a step's logarithm by the clock of the thread, ``busy_jitter`` by
    the clock on the wall, which includes what the work of others does to it.
    """

    host: hosts.Host
    link: collectives.Link
    add_bytes_per_s: float
    jitter: float
    busy_jitter: float

    def quiet(self) -> Constants:
        """Return the constants of the same machine without the work of others."""
        return dataclasses.replace(self, host=self.host.quiet(), busy_jitter=self.jitter)


def fit(calibration: records.Calibration) -> Constants:
    """Return the constants that explain a calibration best."""
    host = _host(calibration)
    link = link_of(calibration.sums, host, calibration.add_bytes_per_s)
    alone = [run for run in calibration.steps if run.way == "alone"]
    return Constants(
        host=host,
        link=link,
        add_bytes_per_s=calibration.add_bytes_per_s,
        jitter=_mean([spread(run.cpu_s) for run in alone]),
        busy_jitter=_mean([spread(run.times_s) for run in alone]),
    )


def link_of(
    sums: Sequence[records.SumRun], host: hosts.Host, add_bytes_per_s: float
) -> collectives.Link:
    """Return delay and rate that explain all-reduces on one host best.

    Every sum is ``2(n-1) delay + 2(n-1)/n size/rate`` and its additions, on processors that are
    shared as ``host`` says.
    """
    rows = []
    for run in sums:
        n = run.ranks
        seconds = statistics.median(run.times_s) / host.sharing(n)
        added_s = (n - 1) / n * run.size_bytes / add_bytes_per_s
        left_s = seconds - min(added_s, LARGEST_ADD_SHARE * seconds)
        rows.append((2.0 * (n - 1), 2.0 * (n - 1) / n * run.size_bytes, left_s))
    delay_s, byte_s = _two_factors(rows)
    return collectives.Link(delay_s, 1 / byte_s)


def spread(times_s: Sequence[float]) -> float:
    """Return the standard deviation of the logarithms, from the quartiles: outliers do little."""
    logs = [math.log(one) for one in times_s]
    if len(logs) < 4:
        return 0.0
    low, _, high = statistics.quantiles(logs, n=4)
    return (high - low) / _QUARTILES_OF_NORMAL


def base(profile: records.Profile, calibration: records.Calibration, host: hosts.Host) -> float:
    """Return the factor from a profile's parts to seconds alone on an idle host.

    The parts say how a step divides; the steps alone, of which there are many more, how long it is.
    """
    parts_s = profile.input_s + profile.forward_s + profile.backward_s + profile.update_s
    alone = [one for run in calibration.runs(profile.name, "alone") for one in run.times_s]
    step_s = statistics.median(alone) if alone else parts_s
    return step_s / parts_s / host.crowding(1)


def _host(calibration: records.Calibration) -> hosts.Host:
    machine = calibration.machine
    alone = [run for run in calibration.steps if run.way == "alone"]
    slowed = statistics.median(
        [
            clock / thread
            for run in alone
            for clock, thread in zip(run.times_s, run.cpu_s, strict=False)
        ]
        or [1.0]
    )
    others = 0.0
    if slowed > NOTICEABLE:
        others = max(0.0, slowed * machine.processors - machine.threads)
    bare = hosts.Host(machine.processors, machine.threads, others)
    return dataclasses.replace(bare, memory=_memory(calibration, bare))


def _memory(calibration: records.Calibration, bare: hosts.Host) -> float:
    """Return what each worker beside costs all others, from workers that never meet."""
    found = []
    for run in calibration.steps:
        alone = calibration.runs(run.profile, "alone")
        beside = min(run.ranks, bare.slots) - 1
        if run.way != "apart" or not alone or beside < 1:
            continue
        single_s = statistics.median([one for other in alone for one in other.times_s])
        ratio = statistics.median(run.times_s) / single_s
        expected = bare.crowding(run.ranks) / bare.crowding(1)
        found.append((ratio / expected - 1) / beside)
    return max(0.0, statistics.median(found)) if found else 0.0


def _two_factors(rows: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Return x, y >= 0 of the least sum of ((a x + b y - c) / c)^2 over rows (a, b, c)."""
    scaled = [(a / c, b / c) for a, b, c in rows]
    aa, bb = sum(a * a for a, _ in scaled), sum(b * b for _, b in scaled)
    ab = sum(a * b for a, b in scaled)
    a1, b1 = sum(a for a, _ in scaled), sum(b for _, b in scaled)
    determinant = aa * bb - ab * ab
    if len(rows) > 1 and determinant > 1e-9 * aa * bb:
        x, y = (a1 * bb - b1 * ab) / determinant, (b1 * aa - a1 * ab) / determinant
        if x >= 0 and y > 0:
            return x, y
    # One of the two cannot be told: all is bytes, or (sizes too small to see them) nearly so.
    return 0.0, b1 / bb


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0
