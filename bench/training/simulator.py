"""``python bench/training/simulator.py``: how far off the planner is on runs that it did not see.

- Clusters (``clusters``): up to eight hosts made of network namespaces, links held to a rate. The
  models sleep instead of computing, so that eight of them fit on few processors, and one really
  computes a little; sums, parameter servers and network are real. A block counts when bare sums
  before and after it get what the links carry: the processors of one machine carry all of them,
  beside other work. It is tried again else, and left out by name in the end.
- This machine: real models, one to three workers on its processors. Says little while it is busy.
- The curve of 2019, fitted; what workers that run ahead can win; how long a simulation takes.

Every line about more workers than were measured is a prediction, with its inputs.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import clusters
import heldout
import shaped
import torch
import torch._dynamo  # DDP loads it at its first use

from quintile.core.scaling import curves, fit, predict, records, simulate
from quintile_trainer import calibrate
from quintile_trainer.calibration import ranks, session, steps

REAL = (
    steps.Wanted("resnet8", 8, (28, 28, 1), 10),
    steps.Wanted("resnet8", 32, (28, 28, 1), 10),
    steps.Wanted("resnet18", 4, (28, 28, 1), 10),
)
CURVE_2019 = {1: 31.0, 2: 54.0, 4: 84.0, 8: 164.0, 16: 339.0, 32: 599.0, 64: 1152.0, 128: 1984.0}
GPUS_PER_HOST = 4


def main() -> None:
    """Measure, print, and store the rows as JSON with ``--out``."""
    parser = argparse.ArgumentParser(prog="bench/training/simulator.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps, at most four hosts")
    parser.add_argument("--out", type=Path, help="where to write the rows as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the namespaces are taken down
    rows: list[heldout.Row] = []
    why = shaped.missing()
    if why:
        print(f"clusters: left out, {why}")
    else:
        rows += clusters.rows(quick=asked.quick)
    rows += this_machine(quick=asked.quick)
    rows += [curve_2019(), running_ahead(), speed()]
    if asked.out:
        asked.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def this_machine(*, quick: bool) -> list[heldout.Row]:
    """Return predicted against measured steps of real models on this machine."""
    effort = session.Effort(
        worlds=(2,) if quick else (2, 3), sum_worlds=(2,), rounds=4, budget_s=5 if quick else 45
    )
    wanted = REAL[:1] if quick else REAL
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
    heldout.say(
        f"this machine, real models; fitted on steps alone and apart and on sums of two workers: "
        f"{1e6 * constants.inside.delay_s:.0f} us a message, jitter {constants.jitter:.1%}, "
        f"{constants.host.memory:.1%} slower for each worker beside"
    )
    rows = []
    for run in calibration.steps:
        if run.way == "ddp":
            own = fit.fit(calibration, run.profile)
            cluster = predict.calibrated(own, run.per_host)
            work = predict.work_of(calibration, run.profile)
            said_s = predict.step(work, cluster, predict.Plan(), run.ranks).seconds
            rows.append(
                heldout.row(
                    f"{run.profile}, {run.ranks} workers", said_s, run.times_s, busy=is_busy
                )
            )
    heldout.table(rows)
    if is_busy:
        print("  inconclusive: steps together met other work, which the prediction leaves out")
        return []
    return rows


def curve_2019() -> heldout.Row:
    """Fit the curve of 2019 and print what its forms say about 1,024 GPUs."""
    heldout.say(
        f"images/s at 1 to 128 GPUs in 2019, {GPUS_PER_HOST} to a host, fitted: {CURVE_2019}"
    )
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
    return heldout.Row(
        "curve of 2019, worst point",
        ratio,
        1.0,
        ratio,
        ratio,
        ratio,
        heldout.BAR,
        ratio <= heldout.BAR,
        "",
    )


def running_ahead() -> heldout.Row:
    """Print what bounded staleness wins when steps are slow now and then: the ideal to reach."""
    pace = simulate.Pace(1.0, slow_chance=0.1, slow_factor=3.0)
    heldout.say(f"4 workers whose steps take 3x as long with p = 0.1 (simulated, seed 0): {pace}")
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
    return heldout.Row(name, ahead, together, ratio, ratio, ratio, 1.2, ratio >= 1.2, "steps/s")


def speed() -> heldout.Row:
    """Print how long 1,024 workers x 1,000 steps take to simulate."""
    begun = time.perf_counter()
    simulate.play(simulate.Pace(1.0, jitter=0.1), workers=1024, steps=1000, ahead=None)
    seconds = time.perf_counter() - begun
    heldout.say(f"1,024 workers x 1,000 steps simulated in {seconds:.1f} s (bar 30 s)")
    name = "simulation of 1,024 workers x 1,000 steps"
    ratio = seconds / 30
    return heldout.Row(name, seconds, 30.0, ratio, ratio, ratio, 1.0, ratio <= 1, "s")


if __name__ == "__main__":
    main()
