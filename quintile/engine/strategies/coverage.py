"""Greedy kernel coverage: the core of MaxHerding and UHerding.

A set of labelled items covers the pool by sum_i w_i max_j k(i, j). The gain of one more item only
shrinks while the set grows, so stale gains are upper bounds and few must be computed again (lazy
greedy). Large pools are covered through a weighted sample of points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quintile.engine import draws
from quintile.engine.propagate import head
from quintile.engine.strategies import state as states

POINTS = 6000
_REFRESH = 24


def greedy(state: states.State, weights: draws.FloatArray, *, width: float) -> list[int]:
    """Return up to ``state.wanted`` open rows in the order in which they add most coverage.

    Args:
        state: The pool.
        weights: How much each item wants to be covered [N], at least 0.
        width: Squared distance at which one item covers another by exp(-1).
    """
    candidates, _ = _sample(state.open, weights, seed=state.seed, purpose="candidates")
    wanting = np.flatnonzero(weights > 0)
    points, shares = _sample(wanting, weights, seed=state.seed, purpose="points")
    near = states.nearest_covered(state, points)
    reached = np.exp(-near / width).astype(np.float32)
    kernel = _kernel(state.features[candidates], state.features[points], width=width)
    picked = _lazy(kernel, reached, shares.astype(np.float32), min(state.wanted, len(candidates)))
    return [int(candidates[place]) for place in picked]


def _lazy(
    kernel: NDArray[np.float32],
    reached: NDArray[np.float32],
    shares: NDArray[np.float32],
    wanted: int,
) -> list[int]:
    """Return places [wanted] of ``kernel`` [M, P] in greedy order; ties to the lower place."""
    gains = (
        np.concatenate(
            [_gains(kernel[at : at + 512], reached, shares) for at in range(0, len(kernel), 512)]
        )
        if len(kernel)
        else np.zeros(0)
    )
    picked: list[int] = []
    while len(picked) < wanted:
        fresh: set[int] = set()
        best = int(gains.argmax())
        while best not in fresh:
            stale = np.argpartition(-gains, min(_REFRESH, len(gains) - 1))[:_REFRESH]
            places = np.union1d(stale, best)
            gains[places] = np.where(
                np.isneginf(gains[places]), -np.inf, _gains(kernel[places], reached, shares)
            )
            fresh.update(int(place) for place in places)
            best = int(gains.argmax())
        picked.append(best)
        gains[best] = -np.inf
        reached = np.maximum(reached, kernel[best])
    return picked


def _gains(
    rows: NDArray[np.float32], reached: NDArray[np.float32], shares: NDArray[np.float32]
) -> draws.FloatArray:
    added = np.maximum(rows - reached, 0) @ shares
    return draws.rounded(added.astype(np.float64))


def _kernel(
    left: draws.FloatArray, right: draws.FloatArray, *, width: float
) -> NDArray[np.float32]:
    kernel = np.empty((len(left), len(right)), dtype=np.float32)
    for start in range(0, len(left), 1024):
        kernel[start : start + 1024] = head.rbf(left[start : start + 1024], right, gamma=1 / width)
    return kernel


def _sample(
    rows: draws.IntArray, weights: draws.FloatArray, *, seed: int, purpose: str
) -> tuple[draws.IntArray, draws.FloatArray]:
    """Return ``rows`` with their weights, or ``POINTS`` of them drawn by weight, ascending.

    Drawn rows get their weight over the chance of having been drawn, so that sums over them
    estimate sums over all.
    """
    heavy = np.maximum(weights[rows], 1e-9)
    if len(rows) <= POINTS:
        return rows, weights[rows]
    # The smallest of exponential waiting times with rates = weights: a weighted draw.
    waits = draws.generator(seed, purpose).exponential(size=len(weights))[rows] / heavy
    order = np.argsort(waits, kind="stable")
    drawn = np.sort(order[:POINTS])
    chance = -np.expm1(-heavy[drawn] * waits[order[POINTS]])
    return rows[drawn], heavy[drawn] / chance
