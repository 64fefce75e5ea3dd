"""Entropy: where the probabilities are spread most."""

from __future__ import annotations

import numpy as np
from scipy import special

from quintile.engine import draws
from quintile.engine.strategies import state as states


def score(state: states.State) -> draws.FloatArray:
    """Return utilities [N]: the entropy in nats; without a model all are alike."""
    if state.probabilities is None:
        return np.zeros(len(state.features))
    return np.asarray(special.entr(state.probabilities).sum(axis=1))
