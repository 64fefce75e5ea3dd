"""From utilities to a ranked list with a reason for every pick. Shared by all strategies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quintile.engine import draws
from quintile.engine.propagate import graph
from quintile.engine.strategies import state as states

_CLOSE = 0.2
"""Margins below this are named in reasons; above, how many images the pick stands for."""


@dataclass(frozen=True)
class Picks:
    """Rows to ask next, best first, and for each why, in a few words for people."""

    rows: draws.IntArray
    reasons: tuple[str, ...]


def select(utility: draws.FloatArray, allowed: draws.IntArray, *, count: int) -> draws.IntArray:
    """Return at most ``count`` of the ``allowed`` rows by falling utility.

    Utilities are rounded to 1e-6; ties go to the lower row (item id). -inf is never chosen.
    """
    ranked = allowed[draws.descending(utility[allowed])]
    return ranked[~np.isneginf(utility[ranked])][:count]


def explain(
    state: states.State,
    rows: draws.IntArray,
    *,
    classes: Sequence[str],
    batch: int,
    by_margin: bool,
) -> tuple[str, ...]:
    """Return the reason of each picked row.

    A pick stands for the open images that are nearer to it than to any label or other pick of its
    batch and the ones before. ``by_margin``: name the two closest classes where they are close.
    """
    margins = state.margins()
    named = by_margin and state.probabilities is not None
    counts = _stands_for(state, rows, batch=max(1, batch))
    reasons = []
    for row, count in zip(rows, counts, strict=True):
        if named and margins[row] < _CLOSE:
            assert state.probabilities is not None
            reasons.append(_close(state.probabilities[row], classes))
        elif count > 1:
            reasons.append(f"stands for {count} images")
        else:
            reasons.append("unlike any labelled image")
    return tuple(reasons)


def _close(probabilities: draws.FloatArray, classes: Sequence[str]) -> str:
    first, second = draws.descending(probabilities)[:2]
    apart = probabilities[first] - probabilities[second]
    return f"{classes[first]}/{classes[second]} {apart:.2f} apart"


def _stands_for(state: states.State, rows: draws.IntArray, *, batch: int) -> draws.IntArray:
    counts = np.zeros(len(rows), dtype=np.int64)
    best = states.nearest_covered(state, state.open)
    for start in range(0, len(rows), batch):
        block = rows[start : start + batch]
        index, squared = graph.nearest(state.features[state.open], state.features[block], count=1)
        closer = squared[:, 0] < best
        best = np.minimum(best, squared[:, 0])
        counts[start : start + len(block)] = np.bincount(index[closer, 0], minlength=len(block))
    return counts
