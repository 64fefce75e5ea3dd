"""Random: a seeded permutation. Called through ``strategies.order``."""

from __future__ import annotations

from quintile.engine import draws
from quintile.engine.strategies import state as states


def score(state: states.State) -> draws.FloatArray:
    """Return utilities [N] in random order."""
    order = draws.generator(state.seed, "random-strategy").permutation(state.open)
    return states.ranked([int(row) for row in order], len(state.features))
