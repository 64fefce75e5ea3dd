"""Raw feature blocks of drawn canvases: pixels, gradient histograms, colour, patch codes.

Called by ``features.pipeline``. Each block maps [n, side, side, 3] to [n, width] float32 and
depends on nothing but the canvas (and the patch dictionary), so that chunks may differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quintile.engine import clusters, draws
from quintile.engine.features import canvas

FloatRows = NDArray[np.float32]

PIXEL_SIDE = 16
COLOUR_SIDE = 4
ORIENTATIONS = 8
CELLS = 8
PATCH_SIDE = 6
MEAN_POOLS = 3
PEAK_POOLS = 2
_MAX_CODES = 160
_PATCHES_TO_LEARN = 40_000
_ROWS_TO_CLUSTER = 8_000


@dataclass(frozen=True)
class Patches:
    """A learned patch dictionary.

    Attributes:
        mean: Mean of contrast-normalised patches [p].
        whitener: ZCA matrix [p, p].
        centroids: Codes [k, p] of whitened patches.
        stride: Step between patches in pixels.
    """

    mean: FloatRows
    whitener: FloatRows
    centroids: FloatRows
    stride: int


def pixels(drawn: canvas.FloatImage) -> FloatRows:
    """Return the grey canvas at 16 x 16, contrast-normalised per image [n, 256]."""
    shrink = canvas.resampler(drawn.shape[1], PIXEL_SIDE)
    small = (shrink @ drawn[..., 0] @ shrink.T).reshape(len(drawn), -1)
    centred = small - small.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-3)
    return np.asarray(centred / spread, dtype=np.float32)


def colours(drawn: canvas.FloatImage) -> FloatRows:
    """Return the two colour planes at 4 x 4 [n, 32].

    Brightness is left out: it tells more about the lamp than about the thing.
    """
    shrink = canvas.resampler(drawn.shape[1], COLOUR_SIDE)
    planes = np.moveaxis(drawn[..., 1:], 3, 1)
    small = (shrink @ planes @ shrink.T).reshape(len(drawn), -1)
    return np.asarray(small, dtype=np.float32)


def gradients(drawn: canvas.FloatImage) -> FloatRows:
    """Return histograms of oriented gradients on 8 x 8 cells, locally normalised [n, 512]."""
    grey = drawn[..., 0]
    down = np.zeros_like(grey)
    across = np.zeros_like(grey)
    down[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    across[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    strength = np.hypot(down, across)
    angle = np.mod(np.arctan2(down, across), np.pi) * (ORIENTATIONS / np.pi)
    lower = np.floor(angle).astype(np.int64) % ORIENTATIONS
    share = (angle - np.floor(angle)).astype(np.float32)
    pool = canvas.resampler(grey.shape[1], CELLS)
    cells = np.zeros((len(grey), ORIENTATIONS, CELLS, CELLS), dtype=np.float32)
    for orientation in range(ORIENTATIONS):
        at_lower = np.where(lower == orientation, strength * (1 - share), 0)
        at_upper = np.where((lower + 1) % ORIENTATIONS == orientation, strength * share, 0)
        cells[:, orientation] = pool @ (at_lower + at_upper) @ pool.T
    return _normalise_locally(cells)


def _normalise_locally(cells: FloatRows) -> FloatRows:
    # Each cell is divided by the energy of its 3 x 3 neighbourhood, then clipped (L2-Hys).
    energy = (cells**2).sum(axis=1)
    padded = np.pad(energy, ((0, 0), (1, 1), (1, 1)))
    around = sum(
        padded[:, top : top + CELLS, left : left + CELLS] for top in range(3) for left in range(3)
    )
    scaled = cells / np.sqrt(around / 9 + 1e-3)[:, None]
    return np.minimum(scaled, 1.0).reshape(len(cells), -1).astype(np.float32)


def learn_patches(drawn: canvas.FloatImage, *, seed: int) -> Patches:
    """Return a dictionary of random patches: whitened, then clustered (seeded)."""
    stride = max(1, drawn.shape[1] // 32)
    windows = _windows(drawn, stride=stride)
    places = int(np.prod(windows.shape[:3]))
    keep = np.sort(draws.generator(seed, "patches").permutation(places)[:_PATCHES_TO_LEARN])
    at = np.unravel_index(keep, windows.shape[:3])
    rows = _contrast(windows[at].reshape(len(keep), -1))
    mean = rows.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(rows - mean, rowvar=False).astype(np.float64))
    scale = 1.0 / np.sqrt(np.clip(values, 0, None) + 0.1)
    whitener = ((vectors * scale) @ vectors.T).astype(np.float32)
    white = (rows - mean) @ whitener
    distinct = np.unique(white[:: max(1, len(white) // _ROWS_TO_CLUSTER)], axis=0)
    centroids = clusters.fit(distinct, count=_MAX_CODES, seed=seed)
    return Patches(mean.astype(np.float32), whitener, centroids, stride)


def codes(drawn: canvas.FloatImage, patches: Patches) -> tuple[FloatRows, FloatRows]:
    """Return triangle codes of all patches: means of 3 x 3 regions, peaks of 2 x 2.

    Means [n, 9 k] tell textures, peaks [n, 4 k] small things wherever they are.
    """
    windows = _windows(drawn, stride=patches.stride)
    n, height, width = windows.shape[:3]
    white = (_contrast(windows.reshape(n * height * width, -1)) - patches.mean) @ patches.whitener
    squared = (white**2).sum(axis=1)[:, None] + (patches.centroids**2).sum(axis=1)[None, :]
    distance = np.sqrt(np.clip(squared - 2 * white @ patches.centroids.T, 0, None))
    active = np.clip(distance.mean(axis=1, keepdims=True) - distance, 0, None)
    grid = active.reshape(n, height, width, -1)
    means = [region.mean(axis=(1, 2)) for region in _regions(grid, MEAN_POOLS)]
    peaks = [region.max(axis=(1, 2)) for region in _regions(grid, PEAK_POOLS)]
    return (
        np.concatenate(means, axis=1).astype(np.float32),
        np.concatenate(peaks, axis=1).astype(np.float32),
    )


def _regions(grid: FloatRows, count: int) -> list[FloatRows]:
    down = np.linspace(0, grid.shape[1], count + 1).astype(int)
    across = np.linspace(0, grid.shape[2], count + 1).astype(int)
    return [
        grid[:, down[i] : down[i + 1], across[j] : across[j + 1]]
        for i in range(count)
        for j in range(count)
    ]


def _windows(drawn: canvas.FloatImage, *, stride: int) -> FloatRows:
    # A view of all patches, [n, height, width, planes, 6, 6]
    views = np.lib.stride_tricks.sliding_window_view(drawn, (PATCH_SIDE, PATCH_SIDE), axis=(1, 2))
    return views[:, ::stride, ::stride]


def _contrast(rows: FloatRows) -> FloatRows:
    centred = rows - rows.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-2)
    return np.asarray(centred / spread, dtype=np.float32)
