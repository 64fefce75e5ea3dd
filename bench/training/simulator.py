"""``python bench/training/simulator.py``: how far off the planner is on runs that it did not see.

- Clusters: up to eight hosts made of network namespaces, links held to a rate. Fitted on bare sums
  of two and three hosts at one rate and on each model alone; predicted are training steps of two to
  eight hosts, at that rate and at another that nothing was fitted to. The models sleep instead of
  computing, so that eight of them fit on few processors; sums and network are real.
- This machine: real models, one to three workers on its processors. Says little while it is busy.
- The curve of 2019, fitted; what workers that run ahead can win; how long a simulation takes.

Every line about more workers than were measured is a prediction, with its inputs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import shaped
import sleeping
import torch
import torch._dynamo  # DDP loads it at its first use

from quintile.core.scaling import collectives, curves, fit, predict, records, simulate
from quintile_trainer import calibrate
from quintile_trainer.calibration import ranks, session, steps, sums

BAR = 1.10
FITTED_MBIT, NEW_MBIT = 100, 200
SUM_WORLDS = (2, 3)
SUM_SIZES = (16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20)
NETS = (
    sleeping.Net("0.5 MB, 60 ms", layers=4, values=32_000, forward_s=0.02, backward_s=0.04),
    sleeping.Net("2 MB, 150 ms", layers=6, values=84_000, forward_s=0.05, backward_s=0.10),
    sleeping.Net("4 MB, 300 ms", layers=8, values=128_000, forward_s=0.10, backward_s=0.20),
    sleeping.Net("4 MB, 60 ms", layers=8, values=128_000, forward_s=0.02, backward_s=0.04),
)
REAL = (
    steps.Wanted("resnet8", 8, (28, 28, 1), 10),
    steps.Wanted("resnet8", 32, (28, 28, 1), 10),
    steps.Wanted("resnet18", 4, (28, 28, 1), 10),
)
CURVE_2019 = {1: 31.0, 2: 54.0, 4: 84.0, 8: 164.0, 16: 339.0, 32: 599.0, 64: 1152.0, 128: 1984.0}
GPUS_PER_HOST = 4


@dataclass(frozen=True)
class Row:
    """One line: ``ours`` is predicted, ``peer`` measured, ``ratio`` with an interval of 95 %."""

    name: str
    ours: float
    peer: float
    ratio: float
    low: float
    high: float
    bar: float
    met: bool
    unit: str


def main() -> None:
    """Measure, print, and store the rows as JSON with ``--out``."""
    parser = argparse.ArgumentParser(prog="bench/training/simulator.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps, at most four hosts")
    parser.add_argument("--out", type=Path, help="where to write the rows as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    why = shaped.missing()
    if why:
        print(f"clusters: left out, {why}")
    else:
        rows += clusters(quick=asked.quick)
    rows += this_machine(quick=asked.quick)
    rows += [curve_2019(), running_ahead(), speed()]
    if asked.out:
        asked.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def clusters(*, quick: bool) -> list[Row]:
    """Return predicted against measured steps of shaped clusters."""
    worlds = (2, 3, 4) if quick else (2, 3, 4, 8)
    count = 6 if quick else 12
    with shaped.hosts(worlds[-1]) as hosts, tempfile.TemporaryDirectory() as folder:
        hosts.limit(f"{FITTED_MBIT}mbit")
        with ranks.team(worlds[-1], Path(folder), threads=1, enter=hosts.enter) as team:
            calibration = _cluster_calibration(team, count)
            measured = {}
            for mbit in (FITTED_MBIT, NEW_MBIT):
                hosts.limit(f"{mbit}mbit")
                for net in NETS:
                    for world in worlds:
                        times = team.call(world, sleeping.together, net, world, count)[0]
                        measured[mbit, net.name, world] = times
    constants = fit.fit(calibration)
    assert constants.across is not None
    _say(
        f"clusters of hosts with one worker each; fitted on bare sums of {SUM_WORLDS} hosts at "
        f"{FITTED_MBIT} Mbit/s: {1000 * constants.across.delay_s:.2f} ms a message, "
        f"{8e-6 * constants.across.bytes_per_s:.0f} Mbit/s; models sleep instead of computing"
    )
    rows = []
    for (mbit, name, world), times in measured.items():
        cluster = _at_rate(predict.calibrated(constants, 1), mbit)
        work = predict.work_of(calibration, name)
        said_s = predict.step(work, cluster, predict.Plan(), world).seconds
        rows.append(_row(f"{name}, {world} hosts, {mbit} Mbit/s", said_s, times))
    _table(rows)
    return rows


def this_machine(*, quick: bool) -> list[Row]:
    """Return predicted against measured steps of real models on this machine."""
    effort = session.Effort(
        worlds=(2,) if quick else (2, 3), sum_worlds=(2,), rounds=4, budget_s=15 if quick else 45
    )
    wanted = REAL[:2] if quick else REAL
    machine = calibrate.machine(calibrate.usable_processors(), 1)
    with (
        tempfile.TemporaryDirectory() as folder,
        ranks.team(effort.worlds[-1], Path(folder), threads=1) as team,
    ):
        found = session.measure(team, wanted, effort)
    calibration = records.Calibration.model_validate(
        {**found, "made_at": "now", "machine": machine}
    )
    constants, is_busy = fit.fit(calibration), fit.busy(calibration)
    _say(
        f"this machine, real models; fitted on steps alone and apart and on sums of two workers: "
        f"{1e6 * constants.inside.delay_s:.0f} us a message, jitter {constants.jitter:.1%}, "
        f"{constants.host.memory:.1%} slower for each worker beside"
    )
    rows = []
    for run in calibration.steps:
        if run.way == "ddp":
            cluster = predict.calibrated(constants, run.per_host)
            work = predict.work_of(calibration, run.profile)
            said_s = predict.step(work, cluster, predict.Plan(), run.ranks).seconds
            rows.append(_row(f"{run.profile}, {run.ranks} workers", said_s, run.times_s))
    _table(rows)
    if is_busy:
        print("  inconclusive: steps together met other work, which the prediction leaves out")
        return []
    return rows


def curve_2019() -> Row:
    """Fit the curve of 2019 and print what its forms say about 1,024 GPUs."""
    _say(f"images/s at 1 to 128 GPUs in 2019, {GPUS_PER_HOST} to a host, fitted: {CURVE_2019}")
    found = curves.fits(CURVE_2019, per_host=GPUS_PER_HOST)
    for curve in found:
        factors = ", ".join(f"{factor:.4f}" for factor in curve.factors)
        print(
            f"  t(n) = 1 + {curve.name:42} {factors:16} error {curve.error:.3f}, worst "
            f"{100 * curve.worst:4.1f} %; as a prediction, 1,024 GPUs: efficiency "
            f"{1 / curve.step(1024):.2f}"
        )
    best = found[0]
    for n, rate in CURVE_2019.items():
        said = n * CURVE_2019[1] / best.step(n)
        print(f"  {n:5} GPUs: {rate:7.0f} measured, {said:7.0f} fitted ({said / rate - 1:+.1%})")
    ratio = 1 + best.worst
    return Row("curve of 2019, worst point", ratio, 1.0, ratio, ratio, ratio, BAR, ratio <= BAR, "")


def running_ahead() -> Row:
    """Print what bounded staleness wins when steps are slow now and then: the ideal to reach."""
    pace = simulate.Pace(1.0, slow_chance=0.1, slow_factor=3.0)
    _say(f"4 workers whose steps take 3x as long with p = 0.1 (simulated, seed 0): {pace}")
    together = simulate.play(pace, workers=4, steps=20_000, ahead=0).steps_per_s
    ahead = simulate.play(pace, workers=4, steps=20_000, ahead=8).steps_per_s
    free = simulate.play(pace, workers=4, steps=20_000, ahead=None).steps_per_s
    print(f"  8 steps ahead / together {ahead / together:.2f}, async {free / together:.2f}")
    lasting = simulate.Pace(1.0, always_slow=1, slow_factor=3.0)
    slow = simulate.play(lasting, workers=2, steps=2_000, ahead=0).steps_per_s
    free = simulate.play(lasting, workers=2, steps=2_000, ahead=None).steps_per_s
    print(f"  one of 2 workers always 3x slower: async / together {free / slow:.2f}")
    ratio = ahead / together
    name = "simulated ideal of ssp(8) / sync, transient slowness"
    return Row(name, ahead, together, ratio, ratio, ratio, 1.2, ratio >= 1.2, "steps/s")


def speed() -> Row:
    """Print how long 1,024 workers x 1,000 steps take to simulate."""
    begun = time.perf_counter()
    simulate.play(simulate.Pace(1.0, jitter=0.1), workers=1024, steps=1000, ahead=None)
    seconds = time.perf_counter() - begun
    _say(f"1,024 workers x 1,000 steps simulated in {seconds:.1f} s (bar 30 s)")
    name = "simulation of 1,024 workers x 1,000 steps"
    ratio = seconds / 30
    return Row(name, seconds, 30.0, ratio, ratio, ratio, 1.0, ratio <= 1, "s")


def _cluster_calibration(team: ranks.Team, count: int) -> records.Calibration:
    """Return a calibration of hosts with one processor and one worker each."""
    profiles, runs = [], []
    for net in NETS:
        found = team.call(1, sleeping.alone, net, count)[0]
        profiles.append(
            {
                "name": net.name,
                "model": "sleeping",
                "batch": sleeping.BATCH,
                "image": [1, 1, 1],
                "parameters": net.layers * net.values,
                "input_s": 0.0,
                "forward_s": found.forward_s,
                "backward_s": found.backward_s,
                "update_s": 0.0,
                "buckets": [{"size_bytes": size, "ready": at} for size, at in found.buckets],
            }
        )
        runs.append({"profile": net.name, "ranks": 1, "way": "alone", "times_s": found.steps_s})
    summed = [
        {
            "ranks": world,
            "hosts": world,
            "size_bytes": size,
            "times_s": team.call(world, sums.timed, world, size, count)[0],
        }
        for world in SUM_WORLDS
        for size in SUM_SIZES
    ]
    machine = {"processor": "made up", "processors": 2, "threads": 1, "load": 0.0}
    return records.Calibration.model_validate(
        {
            "made_at": "now",
            "took_s": 1.0,
            "machine": machine,
            "add_bytes_per_s": team.call(1, sums.add_bytes_per_s)[0],
            "profiles": profiles,
            "steps": runs,
            "sums": summed,
        }
    )


def _at_rate(cluster: predict.Cluster, mbit: int) -> predict.Cluster:
    """Return a cluster whose links have another rate than the one that was fitted."""
    if mbit == FITTED_MBIT:
        return cluster
    faster = mbit / FITTED_MBIT
    across = cluster.across
    rates = tuple((size, rate * faster) for size, rate in across.rates)
    changed = collectives.Link(across.delay_s, across.bytes_per_s * faster, rates)
    return dataclasses.replace(cluster, across=changed)


def _row(name: str, said_s: float, times_s: Sequence[float]) -> Row:
    chance = random.Random(0)
    measured_s = statistics.median(times_s)
    drawn = sorted(
        said_s / statistics.median(chance.choices(times_s, k=len(times_s))) for _ in range(400)
    )
    ratio = said_s / measured_s
    met = 1 / BAR <= ratio <= BAR
    said_ms, measured_ms = 1000 * said_s, 1000 * measured_s
    return Row(
        f"predicted / measured step: {name}",
        said_ms,
        measured_ms,
        ratio,
        drawn[10],
        drawn[389],
        BAR,
        met,
        "ms",
    )


def _table(rows: Sequence[Row]) -> None:
    for row in rows:
        print(
            f"  {row.name:64} {row.ours:8.1f} {row.peer:8.1f} ms  {row.ratio - 1:+6.1%}  "
            f"[{row.low - 1:+.1%}, {row.high - 1:+.1%}]  {'' if row.met else 'MISSED'}"
        )
    errors = sorted(abs(row.ratio - 1) for row in rows)
    print(
        f"  error: median {statistics.median(errors):.1%}, worst {errors[-1]:.1%}, within 10 %: "
        f"{sum(row.met for row in rows)} of {len(rows)}"
    )


def _say(line: str) -> None:
    print(f"\n{line}  (load {os.getloadavg()[0]:.1f})")


if __name__ == "__main__":
    main()
