"""A small pool with classes that overlap a little, for tests of the labeling mathematics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Blobs:
    """Features [N, D] float64, true classes [N], item ids [N] sorted."""

    features: npt.NDArray[np.float64]
    truth: npt.NDArray[np.int64]
    item_ids: npt.NDArray[np.str_]


def blobs(
    n_items: int = 300,
    *,
    classes: int = 4,
    width: int = 6,
    spread: float = 0.5,
    seed: int = 0,
) -> Blobs:
    """Return ``n_items`` points around ``classes`` centres, in random order."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(classes, width))
    truth = draw.integers(0, classes, size=n_items)
    features = centres[truth] + spread * draw.normal(size=(n_items, width))
    item_ids = np.array([f"{row:016x}" for row in range(n_items)])
    return Blobs(features, truth.astype(np.int64), item_ids)
