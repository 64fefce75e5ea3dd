"""Light changes to training images, after batching; the seed of a sample is its position's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quintile_trainer.data import order

Pixels = npt.NDArray[np.uint8]


def augment(batch: Pixels, seeds: Sequence[int], *, shift: int, flip: bool) -> Pixels:
    """Return a batch [B, H, W, C] with each image moved by up to ``shift`` pixels, maybe mirrored.

    Pixels that come in from outside repeat the edge. ``seeds`` [B]: equal seeds, equal changes.
    """
    if not shift and not flip:
        return batch
    _, height, width, _ = batch.shape
    padded = np.pad(batch, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    changed = np.empty_like(batch)
    span = 2 * shift + 1
    for place, seed in enumerate(seeds):
        draw = order.mix(seed, 1)
        top, left = draw % span, (draw >> 20) % span
        image = padded[place, top : top + height, left : left + width]
        changed[place] = image[:, ::-1] if flip and (draw >> 40) & 1 else image
    return changed
