"""MaxHerding: the items that together stand for most of the pool; needs no labels.

Bae and others, "Generalized Coverage for More Robust Low-Budget Active Learning", ECCV 2024.
"""

from __future__ import annotations

import numpy as np

from quintile.engine import draws
from quintile.engine.strategies import coverage
from quintile.engine.strategies import state as states


def score(state: states.State) -> draws.FloatArray:
    """Return utilities [N]: greedy order of kernel coverage, every item wanting it alike."""
    n_items = len(state.features)
    order = coverage.greedy(state, np.ones(n_items), width=state.scale / 2)
    return states.ranked(order, n_items)
