"""What a strategy may know when it scores the items of a pool."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quintile.engine import draws
from quintile.engine.propagate import graph


@dataclass(frozen=True)
class State:
    """A pool at the moment of choosing.

    Attributes:
        features: [N, D].
        scale: Median squared distance between two items.
        covered: Rows that people answered or will answer anyway (all of R) [L], ascending.
        open: Rows that may be chosen [M], ascending; none of them is covered.
        wanted: How many rows will be taken.
        seed: For strategies that draw.
        probabilities: Of every item [N, C]; None before the first model.
    """

    features: draws.FloatArray
    scale: float
    covered: draws.IntArray
    open: draws.IntArray
    wanted: int
    seed: int
    probabilities: draws.FloatArray | None = None

    def margins(self) -> draws.FloatArray:
        """Return first minus second probability [N]; without a model 0: all is unsure."""
        if self.probabilities is None:
            return np.zeros(len(self.features))
        top = np.sort(self.probabilities, axis=1)
        return np.asarray(top[:, -1] - top[:, -2])


def squared_to(features: draws.FloatArray, row: int) -> draws.FloatArray:
    """Return squared distances of all items to one [N]."""
    squared = ((features - features[row]) ** 2).sum(axis=1)
    return np.asarray(squared)


def nearest_covered(state: State, rows: draws.IntArray) -> draws.FloatArray:
    """Return the squared distance of ``rows`` to the nearest covered row; inf without one."""
    if len(state.covered) == 0:
        return np.full(len(rows), np.inf)
    covered = state.features[state.covered]
    return graph.nearest(state.features[rows], covered, count=1)[1][:, 0]


def ranked(order: list[int], n_items: int) -> draws.FloatArray:
    """Return utilities [N] that keep a greedy ``order``; items outside of it get -inf."""
    utility = np.full(n_items, -np.inf)
    utility[order] = np.arange(len(order), 0, -1)
    return utility
