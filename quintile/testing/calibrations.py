"""Calibrations of machines whose every property is known, for tests of what is fitted to them."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from quintile.core.scaling import records

_NORMAL = statistics.NormalDist()
STEPS = 40


@dataclass(frozen=True)
class Truth:
    """A machine and a model: what a perfect fit finds. Steps together take ``together_s``."""

    delay_s: float = 50e-6
    bytes_per_s: float = 2e9
    add_bytes_per_s: float = 20e9
    jitter: float = 0.02
    memory: float = 0.2
    processors: float = 2.0
    threads: int = 1
    forward_s: float = 0.010
    backward_s: float = 0.020
    buckets: tuple[tuple[int, float], ...] = ((1 << 20, 0.5), (4 << 20, 1.0))
    together_s: float = 0.045
    load: float = 0.1

    @property
    def step_s(self) -> float:
        """Return a step alone."""
        return self.forward_s + self.backward_s + 0.002

    def sum_s(self, size_bytes: int, ranks: int) -> float:
        """Return a sum on this machine."""
        n = ranks
        wire_s = 2 * (n - 1) / n * size_bytes / self.bytes_per_s
        added_s = (n - 1) / n * size_bytes / self.add_bytes_per_s
        sharing = max(1.0, n / self.processors)
        return (2 * (n - 1) * self.delay_s + wire_s + added_s) * sharing


def made(truth: Truth, *, name: str = "resnet8, 32 x 28x28x1") -> records.Calibration:
    """Return what a calibration of such a machine measures."""
    crowded = truth.step_s * (1 + truth.memory)
    steps = [
        _run(name, 1, "alone", _around(truth.step_s, truth.jitter)),
        _run(name, 2, "apart", _around(crowded, truth.jitter)),
        _run(name, 2, "ddp", _around(truth.together_s, truth.jitter)),
    ]
    sums = [
        records.SumRun(ranks=n, size_bytes=size, times_s=[truth.sum_s(size, n)] * 5)
        for n in (2, 3)
        for size in (4 << 10, 64 << 10, 1 << 20, 4 << 20)
    ]
    profile = records.Profile(
        name=name,
        model=name.partition(",")[0],
        batch=32,
        image=[28, 28, 1],
        parameters=sum(size for size, _ in truth.buckets) // 4,
        input_s=0.001,
        forward_s=truth.forward_s,
        backward_s=truth.backward_s,
        update_s=0.001,
        buckets=[records.Bucket(size_bytes=size, ready=at) for size, at in truth.buckets],
    )
    return records.Calibration(
        made_at="2026-01-01T00:00:00+00:00",
        took_s=30.0,
        machine=records.Machine(
            processor="a processor",
            processors=truth.processors,
            threads=truth.threads,
            load=truth.load,
        ),
        add_bytes_per_s=truth.add_bytes_per_s,
        profiles=[profile],
        steps=steps,
        sums=sums,
        loader=records.Loader(images_per_s=10_000, image_bytes=900),
    )


def _run(name: str, ranks: int, way: str, times_s: list[float]) -> records.StepRun:
    return records.StepRun.model_validate(
        {"profile": name, "ranks": ranks, "way": way, "times_s": times_s, "cpu_s": times_s}
    )


def _around(median_s: float, jitter: float) -> list[float]:
    """Return times whose logarithms are as evenly normal as so many can be."""
    places = [(number + 0.5) / STEPS for number in range(STEPS)]
    return [median_s * math.exp(jitter * _NORMAL.inv_cdf(place)) for place in places]
