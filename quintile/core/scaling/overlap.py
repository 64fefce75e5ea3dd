"""Sums that go on while the backward pass does: what of them is left when it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summing:
    """Seconds of a step's sums: those beside the backward pass, and those after it."""

    hidden_s: float
    exposed_s: float


def pipeline(backward_s: float, ready: Sequence[float], sums_s: Sequence[float]) -> Summing:
    """Return what one worker's sums cost: one at a time, each begun when its gradients are ready.

    Args:
        backward_s: Length of the backward pass.
        ready: At which share of it each bucket is ready, in order.
        sums_s: How long each bucket's sum takes.
    """
    free_s = 0.0
    for share, sum_s in zip(ready, sums_s, strict=True):
        free_s = max(free_s, share * backward_s) + sum_s
    exposed_s = max(0.0, free_s - backward_s) if sums_s else 0.0
    return Summing(hidden_s=sum(sums_s) - exposed_s, exposed_s=exposed_s)
