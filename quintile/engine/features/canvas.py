"""Images of any size onto one square canvas, in opponent colours. Called by the blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quintile.core import errors

Image = NDArray[np.uint8]
FloatImage = NDArray[np.float32]

# Grey, red minus green, blue minus yellow: grey images have zeros in the last two.
_OPPONENT = np.array(
    [[0.299, 0.587, 0.114], [0.5, -0.5, 0.0], [-0.25, -0.25, 0.5]], dtype=np.float32
)


def check(image: Image) -> None:
    """Raise InvalidSpec unless ``image`` is uint8, HxW or HxWx3, and not empty."""
    shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not shaped or image.size == 0:
        raise errors.InvalidSpec(
            f"An image has shape {image.shape} and type {image.dtype}; "
            "expected uint8 of shape HxW or HxWx3 with at least one pixel.",
            hint="Decode images to 8-bit grey or RGB before describing them.",
        )


def draw(images: Sequence[Image], *, side: int) -> FloatImage:
    """Return images on square canvases [n, side, side, 3], float32, grey in 0..1.

    Resampling averages over areas when it shrinks and is linear when it enlarges; the aspect
    ratio is not kept, so that the whole image stays visible to every block.
    """
    drawn = np.zeros((len(images), side, side, 3), dtype=np.float32)
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        check(image)
        by_shape.setdefault(image.shape, []).append(row)
    for shape, rows in by_shape.items():
        stack = np.stack([images[row] for row in rows]).astype(np.float32) / np.float32(255)
        vertical, horizontal = resampler(shape[0], side), resampler(shape[1], side)
        if stack.ndim == 3:
            drawn[rows, :, :, 0] = vertical @ stack @ horizontal.T
            continue
        colours = np.einsum("nhwc,oc->nohw", stack, _OPPONENT)
        drawn[rows] = np.moveaxis(vertical @ colours @ horizontal.T, 1, 3)
    return drawn


def resampler(source: int, target: int) -> NDArray[np.float32]:
    """Return the matrix [target, source] that resamples one axis with a triangle filter."""
    scale = source / target
    reach = max(1.0, scale)
    centres = (np.arange(target) + 0.5) * scale - 0.5
    weights = 1.0 - np.abs(np.arange(source)[None, :] - centres[:, None]) / reach
    weights = np.clip(weights, 0.0, None)
    # Past the border the outermost pixel repeats, so that every row has some weight.
    empty = weights.sum(axis=1) <= 0
    nearest = np.clip(np.rint(centres), 0, source - 1).astype(int)
    weights[empty, nearest[empty]] = 1.0
    scaled: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return scaled
