"""The feature pipeline: dictionary, raw rows, whitening. Public through ``engine.features``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from quintile.core import errors
from quintile.engine import draws, threads
from quintile.engine.features import blocks, canvas

SAMPLE_LIMIT = 600
COMPONENTS = 256
_CHUNK = 64
_COVARIANCE_ROWS = 20_000
_SMALL_SIDE, _LARGE_SIDE = 32, 64
# Between plain PCA (0) and full whitening (1): weak directions count more, noise does not rule.
_WHITENING = 0.25


@dataclass(frozen=True)
class Dictionary:
    """What describing needs beyond the image; learned once per pool from a sample.

    Attributes:
        side: Canvas side in pixels.
        coloured: Whether any sampled image has colour; grey pools skip the colour planes.
        patches: The patch codes.
        means: Mean of each raw column [R].
        scales: Divisor of each raw column [R], constant per block; 0 drops the column.
    """

    side: int
    coloured: bool
    patches: blocks.Patches
    means: NDArray[np.float32]
    scales: NDArray[np.float32]


def sample_rows(n_items: int, *, seed: int, limit: int = SAMPLE_LIMIT) -> draws.IntArray:
    """Return ascending rows whose images teach the dictionary, at most ``limit``."""
    order = draws.generator(seed, "feature-sample").permutation(n_items)[:limit]
    return np.sort(order).astype(np.int64)


@threads.single
def learn(sample: Sequence[canvas.Image], *, seed: int) -> Dictionary:
    """Return the dictionary learned from ``sample``.

    Raises:
        InvalidSpec: The sample is empty, or holds something that is no 8-bit image.
    """
    if not sample:
        raise errors.InvalidSpec(
            "No images to learn features from; expected at least one.",
            hint="Check that the dataset version holds readable images.",
        )
    for image in sample:
        canvas.check(image)
    typical = float(np.median([max(image.shape[:2]) for image in sample]))
    side = _SMALL_SIDE if typical <= 1.5 * _SMALL_SIDE else _LARGE_SIDE
    drawn = canvas.draw(sample, side=side)
    coloured = bool(np.abs(drawn[..., 1:]).max() > 1e-3)
    patches = blocks.learn_patches(_planes(drawn, coloured=coloured), seed=seed)
    chunks = [
        _parts(drawn[start : start + _CHUNK], coloured=coloured, patches=patches)
        for start in range(0, len(drawn), _CHUNK)
    ]
    means, scales = [], []
    for part in (np.concatenate(block) for block in zip(*chunks, strict=True)):
        total = float(np.sqrt(part.var(axis=0, dtype=np.float64).sum()))
        means.append(part.mean(axis=0))
        scales.append(np.full(part.shape[1], total if total > 1e-6 else 0.0))
    return Dictionary(
        side=side,
        coloured=coloured,
        patches=patches,
        means=np.concatenate(means).astype(np.float32),
        scales=np.concatenate(scales).astype(np.float32),
    )


@threads.single
def describe_raw(images: Sequence[canvas.Image], dictionary: Dictionary) -> NDArray[np.float32]:
    """Return raw rows [n, R] float32, each block with unit total variance over the sample."""
    rows = np.zeros((len(images), len(dictionary.means)), dtype=np.float32)
    kept = dictionary.scales > 0
    factor = np.where(kept, 1.0 / np.where(kept, dictionary.scales, 1), 0).astype(np.float32)
    for start in range(0, len(images), _CHUNK):
        # A short chunk is padded: matrix products of another height may round differently.
        chunk = list(images[start : start + _CHUNK])
        drawn = np.zeros((_CHUNK, dictionary.side, dictionary.side, 3), dtype=np.float32)
        drawn[: len(chunk)] = np.concatenate(
            [canvas.draw([image], side=dictionary.side) for image in chunk]
        )
        parts = _parts(drawn, coloured=dictionary.coloured, patches=dictionary.patches)
        found = np.concatenate(parts, axis=1)[: len(chunk)]
        rows[start : start + len(chunk)] = (found - dictionary.means) * factor
    return rows


@threads.single
def whiten(
    raw: NDArray[np.float32], *, seed: int = 0, components: int = COMPONENTS
) -> draws.FloatArray:
    """Return principal components [N, D] float64, slightly whitened, mean squared norm 1.

    D is at most ``components``, N - 1 and R; a pool of equal images gives one column of zeros.
    """
    n_items = len(raw)
    if n_items == 0:
        raise errors.InvalidSpec("No rows to whiten; expected at least one image.")
    order = draws.generator(seed, "whitening").permutation(n_items)[:_COVARIANCE_ROWS]
    rows = raw[np.sort(order)].astype(np.float64)
    mean = rows.mean(axis=0)
    rows -= mean
    limit = max(1, min(components, n_items - 1, raw.shape[1]))
    values, vectors = _principal(rows, limit)
    kept = max(1, int((values > 1e-9 * max(values[0], 1e-12)).sum()))
    vectors, values = vectors[:, :kept], np.clip(values[:kept], 1e-12, None)
    # The sign of an eigenvector is free; the largest entry decides it.
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.where(vectors[largest, np.arange(kept)] < 0, -1.0, 1.0)
    projection = vectors * values ** (-_WHITENING / 2)
    found = np.empty((n_items, kept))
    for start in range(0, n_items, 4096):
        found[start : start + 4096] = (raw[start : start + 4096] - mean) @ projection
    norm = np.sqrt((found**2).sum(axis=1).mean())
    return found / norm if norm > 1e-9 else np.zeros_like(found)


def _principal(rows: draws.FloatArray, count: int) -> tuple[draws.FloatArray, draws.FloatArray]:
    """Return the largest variances [k] and their unit directions [R, k] of centred rows [n, R]."""
    n_rows, width = rows.shape
    if n_rows >= width:
        found = (width - count, width - 1)
        values, vectors = linalg.eigh(rows.T @ rows / n_rows, subset_by_index=found)
        return values[::-1], vectors[:, ::-1]
    # Fewer rows than columns: the same from the smaller matrix of inner products.
    count = min(count, n_rows)
    found = (n_rows - count, n_rows - 1)
    values, left = linalg.eigh(rows @ rows.T / n_rows, subset_by_index=found)
    values, vectors = values[::-1], rows.T @ left[:, ::-1]
    length = np.sqrt((vectors**2).sum(axis=0))
    return values, vectors / np.where(length > 1e-12, length, 1.0)


def describe(images: Sequence[canvas.Image], *, seed: int = 0) -> draws.FloatArray:
    """Return features [N, D] of a pool that fits in memory; equal inputs give equal bytes."""
    sample = [images[row] for row in sample_rows(len(images), seed=seed)]
    return whiten(describe_raw(images, learn(sample, seed=seed)), seed=seed)


def _planes(drawn: canvas.FloatImage, *, coloured: bool) -> canvas.FloatImage:
    return drawn if coloured else drawn[..., :1]


def _parts(
    drawn: canvas.FloatImage, *, coloured: bool, patches: blocks.Patches
) -> list[NDArray[np.float32]]:
    means, peaks = blocks.codes(_planes(drawn, coloured=coloured), patches)
    parts = [blocks.pixels(drawn), blocks.gradients(drawn), means, peaks]
    if coloured:
        parts.append(blocks.colours(drawn))
    return parts
