"""What a round computes once from features, whatever the labels: scale and graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quintile.engine import draws, threads
from quintile.engine.propagate import graph


@dataclass(frozen=True)
class Space:
    """A pool, ready for learning.

    Attributes:
        features: [N, D].
        graph: Nearest neighbours.
        scale: Median squared distance between two items, > 0.
    """

    features: draws.FloatArray
    graph: graph.Graph
    scale: float


@threads.single
def build(features: draws.FloatArray, *, seed: int) -> Space:
    """Return the learning space of ``features`` [N, D]."""
    scale = median_squared(features, seed=seed)
    return Space(features, graph.neighbours(features), scale)


def median_squared(features: draws.FloatArray, *, seed: int) -> float:
    """Return the median squared distance between two random items; 1 for a constant pool."""
    draw = draws.generator(seed, "scale")
    left, right = draw.integers(0, len(features), size=(2, 4000))
    squared = ((features[left] - features[right]) ** 2).sum(axis=1)
    positive = squared[squared > 1e-12]
    return float(np.median(positive)) if len(positive) else 1.0
