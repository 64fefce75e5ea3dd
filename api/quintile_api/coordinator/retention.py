"""Which committed checkpoints are kept: the newest, the best, and the one that is resumed from.

The decision is pure; ``service`` carries it out after every commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HIGHER_IS_BETTER = ("eval/accuracy", "eval/agreement")
LOWER_IS_BETTER = ("eval/loss",)


@dataclass(frozen=True)
class Keep:
    """How many of each; ``spec.checkpoint`` of the trial."""

    last: int
    best: int


@dataclass(frozen=True)
class Saved:
    """One committed checkpoint."""

    key: str
    metrics: Mapping[str, float]


def surplus(saved: Sequence[Saved], keep: Keep, *, resumed_from: str) -> list[Saved]:
    """Return the checkpoints that nobody needs.

    Args:
        saved: All of a trial, newest first.
        keep: How many stay.
        resumed_from: Key of the one that the running generation began with, empty for none.
    """
    scored = [(score, -place, entry) for place, entry in enumerate(saved) if (score := rate(entry))]
    # Of equally good ones the oldest is nearest to the evaluation that it is judged by.
    best = sorted(scored, key=lambda found: (found[0], -found[1]), reverse=True)[: keep.best]
    kept = {entry.key for entry in saved[: keep.last]}
    kept |= {entry.key for _, _, entry in best} | {resumed_from}
    return [entry for entry in saved if entry.key not in kept]


def rate(entry: Saved) -> tuple[int, float] | None:
    """Return how good a checkpoint is, None when it was never evaluated. More is better."""
    for name in HIGHER_IS_BETTER:
        if name in entry.metrics:
            return 1, entry.metrics[name]
    for name in LOWER_IS_BETTER:
        if name in entry.metrics:
            return 0, -entry.metrics[name]
    return None
