"""The nearest-neighbour graph of a pool, and spreading labels over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from quintile.engine import draws

NEIGHBOURS = 10
ALPHA = 0.8
STEPS = 30
_BLOCK = 1024
# Differences of masses leave rounding errors of this order where nothing arrived.
_NO_MASS = 1e-12


@dataclass(frozen=True)
class Graph:
    """Nearest neighbours of every item.

    Attributes:
        index: Neighbours, nearest first, the item itself left out [N, k].
        squared: Squared distances to them [N, k].
        walk: Symmetric normalised weights [N, N], sparse.
    """

    index: draws.IntArray
    squared: draws.FloatArray
    walk: sparse.csr_array


def nearest(
    queries: draws.FloatArray, pool: draws.FloatArray, *, count: int
) -> tuple[draws.IntArray, draws.FloatArray]:
    """Return (index [Q, k], squared distance [Q, k]) of the nearest pool rows, nearest first."""
    count = min(count, len(pool))
    index = np.empty((len(queries), count), dtype=np.int64)
    squared = np.empty((len(queries), count))
    norms = (pool**2).sum(axis=1)
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        distance = norms - 2 * block @ pool.T + (block**2).sum(axis=1)[:, None]
        distance = np.round(np.clip(distance, 0, None), 12)
        near = np.argpartition(distance, count - 1, axis=1)[:, :count]
        near = np.sort(near, axis=1)
        found = np.take_along_axis(distance, near, axis=1)
        order = np.argsort(found, axis=1, kind="stable")
        index[start : start + len(block)] = np.take_along_axis(near, order, axis=1)
        squared[start : start + len(block)] = np.take_along_axis(found, order, axis=1)
    return index, squared


def neighbours(features: draws.FloatArray, *, count: int = NEIGHBOURS) -> Graph:
    """Return the symmetric k-nearest-neighbour graph of ``features`` [N, D], exact."""
    n_items = len(features)
    index, squared = nearest(features, features, count=min(count + 1, n_items))
    # Copies tie with the item itself at distance 0: drop the item wherever it stands.
    own = index == np.arange(n_items)[:, None]
    own[~own.any(axis=1), -1] = True
    kept = index.shape[1] - 1
    index = index[~own].reshape(n_items, kept)
    squared = squared[~own].reshape(n_items, kept)
    return Graph(index, squared, _walk(index, squared))


def masses(graph: Graph, seeds: sparse.csr_array, *, alpha: float = ALPHA) -> draws.FloatArray:
    """Return label mass [N, W] after spreading ``seeds`` [N, W] over the graph.

    Linear in the seeds: the mass without some labels is the whole mass minus theirs.
    """
    start = np.asarray(seeds.todense(), dtype=np.float64)
    mass = start.copy()
    for _ in range(STEPS):
        mass = alpha * (graph.walk @ mass) + (1 - alpha) * start
    return mass


def shares(mass: draws.FloatArray) -> tuple[draws.FloatArray, draws.FloatArray]:
    """Return mass [n, C] as (shares that sum to 1 [n, C], total mass [n])."""
    mass = np.clip(mass, 0, None)
    total = mass.sum(axis=1)
    reached = (total > _NO_MASS)[:, None]
    # Items that no label reaches know nothing: all classes alike.
    divided = mass / np.where(reached, total[:, None], 1)
    return np.where(reached, divided, 1.0 / mass.shape[1]), total


def _walk(index: draws.IntArray, squared: draws.FloatArray) -> sparse.csr_array:
    n_items, count = index.shape
    if count == 0:
        return sparse.csr_array((n_items, n_items))
    # Each item has its own scale: the distance to its last neighbour.
    reach = np.sqrt(squared[:, -1]) + 1e-9
    weight = np.exp(-squared / (reach[:, None] * reach[index]))
    rows = np.repeat(np.arange(n_items), count)
    one_way = sparse.csr_array((weight.ravel(), (rows, index.ravel())), shape=(n_items, n_items))
    both = one_way.maximum(one_way.T).tocsr()
    degree = np.asarray(both.sum(axis=1)).ravel()
    scale = sparse.diags_array(1.0 / np.sqrt(np.maximum(degree, 1e-12)))
    return sparse.csr_array(scale @ both @ scale)
