"""Coreset: k-centre greedy, always the item farthest from all labels.

Sener and Savarese, "Active Learning for Convolutional Neural Networks", ICLR 2018.
"""

from __future__ import annotations

import numpy as np

from quintile.engine import draws
from quintile.engine.strategies import state as states


def score(state: states.State) -> draws.FloatArray:
    """Return utilities [N]: greedy order of farthest-first traversal."""
    n_items = len(state.features)
    far = np.full(n_items, -np.inf)
    far[state.open] = states.nearest_covered(state, state.open)
    if len(state.covered) == 0:
        # Without labels the walk begins at the item nearest to the middle.
        middle = ((state.features - state.features.mean(axis=0)) ** 2).sum(axis=1)
        far[state.open] = -draws.rounded(middle[state.open])
    order: list[int] = []
    for _ in range(min(state.wanted, len(state.open))):
        row = int(draws.rounded(far).argmax())
        squared = states.squared_to(state.features, row)
        first = not order and len(state.covered) == 0
        far = np.where(np.isneginf(far), far, squared if first else np.minimum(far, squared))
        far[row] = -np.inf
        order.append(row)
    return states.ranked(order, n_items)
