"""From a calibration to the constants of the model, which speaks of machines that are idle. Pure.

Other work on the machine only ever adds to a time. So computing is taken from the clock of the
thread where there is one, and of times by the clock on the wall the lower quartile counts.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from quintile.core.scaling import collectives, hosts, records

BUSY = 1.1
"""A machine is busy when the clock on the wall runs so much faster than that of the thread."""
BUSY_LOAD = 0.5
"""Without a clock of the thread: when others would keep so many processors of all at work."""
LARGEST_ADD_SHARE = 0.5
LEAST_RATE_SHARE = 0.3
"""Of a sum's time must be left after its delays, or it says nothing about a rate."""
_QUARTILES_OF_NORMAL = 1.349


@dataclass(frozen=True)
class Constants:
    """What the model knows about a machine; ``across`` only where sums between hosts were measured.

    ``jitter`` is the standard deviation of the logarithm of a step.
    """

    host: hosts.Host
    inside: collectives.Link
    across: collectives.Link | None
    add_bytes_per_s: float
    jitter: float


def fit(calibration: records.Calibration, profile: str = "") -> Constants:
    """Return the constants that explain a calibration best.

    Args:
        calibration: What was measured.
        profile: Whose workers cost each other memory, where that was measured; else of all alike.
    """
    host, add = _host(calibration, profile), calibration.add_bytes_per_s
    between = [run for run in calibration.sums if run.hosts > 1]
    within = [run for run in calibration.sums if run.hosts == 1]
    alone = [run for run in calibration.steps if run.way == "alone"]
    return Constants(
        host=host,
        inside=link_of(within or between, host, add),
        across=link_of(between, host, add) if between else None,
        add_bytes_per_s=add,
        jitter=statistics.fmean([spread(own_times(run)) for run in alone] or [0.0]),
    )


def link_of(
    sums: Sequence[records.SumRun], host: hosts.Host, add_bytes_per_s: float
) -> collectives.Link:
    """Return the delay and the rates that explain all-reduces best.

    Every sum is ``2(n-1) delay + 2(n-1)/n size/rate`` and its additions, on processors that are
    shared as ``host`` says. The delay comes from the two smallest sizes, where it is most of the
    time; then each size has its own rate.
    """
    rows: dict[int, list[tuple[float, float, float]]] = {}
    for run in sums:
        n = run.ranks
        seconds = undisturbed(run.times_s) / host.sharing(run.per_host)
        added_s = (n - 1) / n * run.size_bytes / add_bytes_per_s
        left_s = seconds - min(added_s, LARGEST_ADD_SHARE * seconds)
        row = (2.0 * (n - 1), 2.0 * (n - 1) / n * run.size_bytes, left_s)
        rows.setdefault(run.size_bytes, []).append(row)
    sizes = sorted(rows)
    delay_s, byte_s = _two_factors([row for size in sizes[:2] for row in rows[size]])
    rates = []
    for size in sizes:
        left = [(c - a * delay_s, b, c) for a, b, c in rows[size]]
        if statistics.median(seconds / c for seconds, _, c in left) >= LEAST_RATE_SHARE:
            rates.append((float(size), statistics.median(b / seconds for seconds, b, _ in left)))
    fallback = 1 / byte_s if byte_s else math.inf
    return collectives.Link(delay_s, rates[-1][1] if rates else fallback, tuple(rates))


def undisturbed(times_s: Sequence[float]) -> float:
    """Return the lower quartile."""
    return statistics.quantiles(times_s, n=4)[0] if len(times_s) > 3 else min(times_s)


def own_times(run: records.StepRun) -> Sequence[float]:
    """Return the times of a run without what the work of others added, where they are known."""
    return run.cpu_s or run.times_s


def busy(calibration: records.Calibration) -> bool:
    """Return whether other work disturbed a calibration."""
    machine = calibration.machine
    slots = hosts.Host(machine.processors, machine.threads).slots
    # Workers that wait for nobody and have processors of their own should never stand still.
    clocked = [
        statistics.median(run.times_s) / statistics.median(run.cpu_s)
        for run in calibration.steps
        if run.cpu_s and run.way != "ddp" and run.per_host <= slots
    ]
    if clocked:
        return max(clocked) > BUSY
    return machine.load > BUSY_LOAD * machine.processors


def spread(times_s: Sequence[float]) -> float:
    """Return the standard deviation of the logarithms, from the quartiles: outliers do little."""
    logs = [math.log(one) for one in times_s]
    if len(logs) < 4:
        return 0.0
    low, _, high = statistics.quantiles(logs, n=4)
    return (high - low) / _QUARTILES_OF_NORMAL


def step_s(calibration: records.Calibration, profile: records.Profile) -> float:
    """Return how long a profile's step alone takes.

    The parts say how a step divides; the steps alone, of which there are more, how long it is.
    """
    runs = calibration.runs(profile.name, "alone")
    if not runs:
        return profile.step_s
    times = [one for run in runs for one in own_times(run)]
    clocked = all(run.cpu_s for run in runs)
    return statistics.median(times) if clocked else typical(calibration, times)


def wrapping_s(calibration: records.Calibration, profile: records.Profile) -> float:
    """Return what being ready to sum gradients adds to a step, whoever is there to sum with."""
    runs = calibration.runs(profile.name, "wrapped")
    if not runs:
        return 0.0
    times = [one for run in runs for one in own_times(run)]
    clocked = all(run.cpu_s for run in runs)
    wrapped_s = statistics.median(times) if clocked else typical(calibration, times)
    return max(0.0, wrapped_s - step_s(calibration, profile))


def typical(calibration: records.Calibration, times_s: Sequence[float]) -> float:
    """Return what times by the clock on the wall were but for other work."""
    return undisturbed(times_s) if busy(calibration) else statistics.median(times_s)


def _host(calibration: records.Calibration, profile: str) -> hosts.Host:
    machine = calibration.machine
    bare = hosts.Host(machine.processors, machine.threads)
    found = _memory(calibration, bare)
    costs = [cost for name, cost in found if name == profile] or [cost for _, cost in found]
    return dataclasses.replace(bare, memory=max(0.0, statistics.median(costs or [0.0])))


def _memory(calibration: records.Calibration, bare: hosts.Host) -> list[tuple[str, float]]:
    """Return (profile, what each worker beside costs all others) of workers that never meet."""
    found = []
    for run in calibration.steps:
        beside = min(run.per_host, bare.slots) - 1
        if run.way == "apart" and beside >= 1:
            single_s = step_s(calibration, calibration.profile(run.profile))
            sharing = 1.0 if run.cpu_s else bare.crowding(run.per_host)
            ratio = statistics.median(own_times(run)) / single_s / sharing
            found.append((run.profile, (ratio - 1) / beside))
    return found


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
        if y <= 0:
            # The larger sums were no slower: all of it is delay.
            return a1 / aa, 0.0
    return 0.0, b1 / bb
