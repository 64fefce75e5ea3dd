"""UHerding: like MaxHerding, but items want coverage by how unsure the model is about them.

Bae, Oh, Sutherland, "Uncertainty Herding: One Active Learning Method for All Label Budgets",
ICLR 2025. The kernel narrows as labels get denser, so that it turns from coverage to uncertainty.
"""

from __future__ import annotations

import numpy as np

from quintile.engine import draws
from quintile.engine.strategies import coverage
from quintile.engine.strategies import state as states


def score(state: states.State) -> draws.FloatArray:
    """Return utilities [N]: greedy order of uncertainty-weighted kernel coverage."""
    n_items = len(state.features)
    unsure = 1.0 - state.margins()
    unsure[state.covered] = 0.0
    order = coverage.greedy(state, unsure, width=_width(state))
    return states.ranked(order, n_items)


def _width(state: states.State) -> float:
    """Return the typical squared distance to the nearest label, at most that of MaxHerding."""
    near = states.nearest_covered(state, state.open)
    typical = float(np.median(near)) if len(near) else np.inf
    return max(min(typical, state.scale / 2), 1e-9)
