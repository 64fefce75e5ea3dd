"""BADGE: k-means++ seeding in the space of hypothetical gradients of the last layer.

Ash and others, "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds",
ICLR 2020. The gradient of an item is (p - one-hot of its predicted class) times its features, so
squared distances follow from two small products and no gradient is ever stored.
"""

from __future__ import annotations

import numpy as np

from quintile.engine import draws
from quintile.engine.strategies import state as states


def score(state: states.State) -> draws.FloatArray:
    """Return utilities [N]: order of the k-means++ draw, the largest gradient first."""
    n_items = len(state.features)
    residual, features = _residuals(state)[state.open], state.features[state.open]
    norms = (residual**2).sum(axis=1) * (features**2).sum(axis=1)
    draw = draws.generator(state.seed, "badge")
    left = np.full(len(state.open), np.inf)
    open_places = np.ones(len(state.open), dtype=np.bool_)
    order: list[int] = []
    while len(order) < min(state.wanted, len(state.open)):
        place = _next(norms if not order else left, open_places, draw, first=not order)
        inner = (residual @ residual[place]) * (features @ features[place])
        squared = np.clip(norms + norms[place] - 2 * inner, 0, None)
        left = np.minimum(left, squared)
        open_places[place] = False
        order.append(int(state.open[place]))
    return states.ranked(order, n_items)


def _residuals(state: states.State) -> draws.FloatArray:
    """Return p minus the one-hot of the predicted class [N, C]; ones before the first model."""
    if state.probabilities is None:
        return np.ones((len(state.features), 1))
    found = state.probabilities.copy()
    found[np.arange(len(found)), found.argmax(axis=1)] -= 1.0
    return found


def _next(
    far: draws.FloatArray,
    open_places: draws.BoolArray,
    draw: np.random.Generator,
    *,
    first: bool,
) -> int:
    weight = np.where(open_places, draws.rounded(far), 0.0)
    if first or weight.sum() <= 0:
        # The largest gradient; without any distance left the first open item.
        return int(np.where(open_places, draws.rounded(far), -1.0).argmax())
    cumulated = np.cumsum(weight)
    place = int(np.searchsorted(cumulated, draw.random() * cumulated[-1], side="right"))
    return min(place, len(weight) - 1)
