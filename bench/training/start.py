"""How long starting takes: agent to first join, rank to first step, and a restart after a kill.

    python bench/training/start.py [--runs 5]

Times are medians of whole processes on this machine; run it while nothing else does.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import signal
import statistics
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from quintile.testing import agents, coordinator, digits, objects

TRAINS = {"builtin": {"model": "resnet8"}}


def main() -> None:
    """Print one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    store = objects.FakeObjectStore()
    version = digits.store(store)
    stored = {info.key: store.get(info.key) for info in store.list("")}
    for workers in (1, 2):
        found = [measure(stored, version, workers=workers) for _ in range(runs)]
        for name in found[0]:
            values = sorted(entry[name] for entry in found)
            spread = f"({values[0]:.3f}-{values[-1]:.3f})"
            print(f"{workers} worker(s)  {name:<28} {statistics.median(values):7.3f} s  {spread}")


def measure(stored: Mapping[str, bytes], version: Any, *, workers: int) -> dict[str, float]:
    """Start one run, kill a rank, and return the times."""
    fake = coordinator.FakeCoordinator()
    fake.start()
    fake.known.objects.update(stored)
    fake.known.access = version.access(fake.bytes_url)
    spec = {
        "dataset": {"name": "digits", "version": 1, "split": digits.SPLIT},
        "estimator": TRAINS,
        "run": {"workers": {"replicas": workers}, "deterministic": True},
        "checkpoint": {"everySteps": 10},
        "telemetry": {"summaryEverySteps": 1},
    }
    hparams = {"iterations": 100_000}
    trial = agents.trial_of(spec, uid=fake.trial_uid, hparams=hparams)
    with tempfile.TemporaryDirectory() as folder:
        attempt = agents.Attempt(pathlib.Path(folder), fake.url, fake.token, trial)
        try:
            begun = time.time()
            started = attempt.start()
            fake.wait(lambda known: bool(known.joined), timeout_s=60)
            joined = time.time()
            first = step_time(fake, 1)
            agents.until(lambda: fake.known.commits, what="a checkpoint")
            victim = started[-1]
            killed = time.time()
            os.kill(victim.ranks()[workers - 1], signal.SIGKILL)
            again = step_time(fake, 2)
            return {
                "agent start to first join": joined - begun,
                "rank start to first step": first - started_at(fake, 1),
                "agent start to first step": first - begun,
                "kill to next finished step": again - killed,
            }
        finally:
            attempt.end()
            fake.stop()


def step_time(fake: coordinator.FakeCoordinator, generation: int) -> float:
    """Return when rank 0 finished the first step of a generation."""
    stream = (1, generation, 0)
    fake.wait(lambda known: bool(known.metrics.get(stream)), timeout_s=120)
    return fake.known.metrics[stream][0].time


def started_at(fake: coordinator.FakeCoordinator, generation: int) -> float:
    """Return when the agent started rank 0 of a generation."""
    stream = (1, generation, 0)
    fake.wait(lambda known: bool(known.logs.get(stream)), timeout_s=60)
    return fake.known.logs[stream][0].time


if __name__ == "__main__":
    main()
