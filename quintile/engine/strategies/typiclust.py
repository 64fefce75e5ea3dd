"""TypiClust: the most typical item of each large cluster that holds no label.

Hacohen, Dekel, Weinshall, "Active Learning on a Budget: Opposite Strategies Suit High and Low
Budgets", ICML 2022.
"""

from __future__ import annotations

import numpy as np

from quintile.engine import clusters, draws
from quintile.engine.propagate import graph
from quintile.engine.strategies import state as states

_MOST_CLUSTERS = 500
_NEIGHBOURS = 20


def score(state: states.State) -> draws.FloatArray:
    """Return utilities [N]: clusters by fewest picks, then size; in each the most typical."""
    n_items = len(state.features)
    count = min(len(state.covered) + state.wanted, _MOST_CLUSTERS, n_items)
    centres = clusters.fit(state.features, count=count, seed=state.seed)
    member = clusters.assign(state.features, centres)
    taken = np.bincount(member[state.covered], minlength=count)
    sizes = np.bincount(member, minlength=count)
    waiting = [_by_typicality(state, member, cluster) for cluster in range(count)]
    order: list[int] = []
    while len(order) < min(state.wanted, len(state.open)):
        live = [cluster for cluster in range(count) if waiting[cluster]]
        best = min(live, key=lambda cluster: (taken[cluster], -sizes[cluster], cluster))
        order.append(waiting[best].pop())
        taken[best] += 1
    return states.ranked(order, n_items)


def _by_typicality(state: states.State, member: draws.IntArray, cluster: int) -> list[int]:
    """Return the open rows of a cluster, the most typical last."""
    inside = np.flatnonzero(member == cluster)
    rows = np.intersect1d(inside, state.open)
    if len(rows) == 0:
        return []
    features = state.features
    squared = graph.nearest(features[rows], features[inside], count=_NEIGHBOURS)[1]
    spread = np.sqrt(squared).mean(axis=1)
    order = draws.descending(-spread)
    return [int(rows[place]) for place in order[::-1]]
