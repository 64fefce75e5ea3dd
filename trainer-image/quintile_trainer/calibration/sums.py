"""Bare all-reduces, and how fast one thread adds numbers in memory."""

from __future__ import annotations

import time

import torch
from torch import distributed

from quintile_trainer.calibration import ranks

WARM_UP = 3
ADD_BYTES = 32 << 20
ADD_REPEATS = 7


def timed(member: ranks.Member, world: int, size_bytes: int, count: int) -> list[float]:
    """Sum float32 values of a size ``count`` times among ``world`` ranks; return the seconds.

    The ranks begin each sum together, as they do after a step.
    """
    group = member.group(world)
    values = torch.ones(max(1, size_bytes // 4))
    found = []
    for number in range(WARM_UP + count):
        distributed.barrier(group=group)
        begun = time.perf_counter()
        distributed.all_reduce(values, group=group)
        if number >= WARM_UP:
            found.append(time.perf_counter() - begun)
        values.fill_(1.0)
    return found


def add_bytes_per_s(member: ranks.Member) -> float:
    """Return how many bytes of float32 this rank adds to others per second, at its best."""
    del member
    total, given = torch.zeros(ADD_BYTES // 4), torch.ones(ADD_BYTES // 4)
    best = float("inf")
    for _ in range(ADD_REPEATS):
        begun = time.perf_counter()
        total.add_(given)
        best = min(best, time.perf_counter() - begun)
    return ADD_BYTES / best
