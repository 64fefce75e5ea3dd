"""Seeded generators: one stream per (seed, purpose), and the rounding that ends ties."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SCORE_DECIMALS = 6


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Return the random stream of ``purpose`` under ``seed``; streams do not overlap."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def rounded(scores: FloatArray) -> FloatArray:
    """Return scores rounded to 1e-6 (negative zero becomes zero); infinities stay."""
    return np.round(scores, SCORE_DECIMALS) + 0.0


def descending(scores: FloatArray) -> IntArray:
    """Return row numbers [N] from highest rounded score to lowest; ties by row number."""
    return np.argsort(-rounded(scores), kind="stable").astype(np.int64)


def no_items() -> IntArray:
    """Return an empty index array."""
    return np.zeros(0, dtype=np.int64)
