"""Light changes to training images, after batching; the seed of a sample is its position's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from quintile_trainer.data import order

Pixels = npt.NDArray[np.uint8]


def augment(batch: Pixels, seeds: order.Ints, *, shift: int, flip: bool) -> Pixels:
    """Return planes [B, C, H, W] of images [B, H, W, C], each moved and maybe mirrored.

    Images move by up to ``shift`` pixels each way; what comes in from outside repeats the edge.
    ``seeds`` [B]: equal seeds, equal changes.
    """
    _, height, width, _ = batch.shape
    draws = order.draws(seeds)
    padded = np.pad(batch, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    span = np.uint64(2 * shift + 1)
    top = (draws % span).astype(np.int64)
    left = ((draws >> np.uint64(20)) % span).astype(np.int64)
    # [B, 2 shift + 1, 2 shift + 1, C, H, W], a view: one window for every way to move.
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    planes: Pixels = windows[np.arange(len(batch)), top, left]
    if flip:
        mirrored = ((draws >> np.uint64(40)) & np.uint64(1)).astype(bool)
        planes[mirrored] = planes[mirrored][..., ::-1]
    return planes
