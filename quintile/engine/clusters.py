"""Seeded k-means, Lloyd's steps on blocks. Called by features (patch codes) and TypiClust."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from quintile.engine import draws

Rows = TypeVar("Rows", NDArray[np.float32], NDArray[np.float64])

_BLOCK = 4096


def fit(rows: Rows, *, count: int, seed: int, steps: int = 10) -> Rows:
    """Return ``count`` centres [k, D] of ``rows`` [n, D]; empty clusters keep their centre.

    Centres start at random rows.
    """
    count = min(count, len(rows))
    start = draws.generator(seed, "clusters").permutation(len(rows))[:count]
    centres = rows[np.sort(start)].copy()
    for _ in range(steps):
        nearest = assign(rows, centres)
        order = np.argsort(nearest, kind="stable")
        sizes = np.bincount(nearest, minlength=count)
        filled = np.flatnonzero(sizes)
        firsts = (np.cumsum(sizes) - sizes)[filled]
        sums = np.add.reduceat(rows[order], firsts, axis=0)
        moved = centres.copy()
        moved[filled] = sums / sizes[filled, None].astype(rows.dtype)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def assign(rows: Rows, centres: Rows) -> draws.IntArray:
    """Return the nearest centre of each row [n]; ties go to the lower number."""
    half = (centres**2).sum(axis=1) / 2
    nearest = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        nearest[start : start + _BLOCK] = (half - block @ centres.T).argmin(axis=1)
    return nearest
