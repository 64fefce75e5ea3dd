"""How fast one thread of this machine decodes stored images of a size."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass

import numpy as np
from PIL import Image

from quintile_trainer.calibration import ranks
from quintile_trainer.data import decode

QUALITY = 90
IMAGES = 32


@dataclass(frozen=True)
class Decoded:
    """Images per second of one thread, and bytes of a stored image."""

    images_per_s: float
    image_bytes: float


def timed(member: ranks.Member, image: tuple[int, int, int], seconds: float) -> Decoded:
    """Decode made-up photographs, (height, width, channels), for some seconds."""
    del member
    stored = [_photograph(image, seed) for seed in range(IMAGES)]
    height, width, channels = image
    count, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < seconds or not count:
        for data in stored:
            decode.decode(data, size=(height, width), channels=channels)
        count += len(stored)
    return Decoded(count / max(passed, 1e-9), sum(map(len, stored)) / len(stored))


def _photograph(image: tuple[int, int, int], seed: int) -> bytes:
    """Return a JPEG whose detail is somewhere between a wall and noise."""
    height, width, channels = image
    draws = np.random.default_rng(seed)
    coarse = draws.integers(0, 256, (max(2, height // 8), max(2, width // 8), channels))
    planes = np.kron(coarse, np.ones((8, 8, 1)))[:height, :width]
    planes = np.resize(planes, (height, width, channels)) + draws.normal(0, 8, image)
    pixels = planes.clip(0, 255).astype(np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(
        written, "JPEG", quality=QUALITY
    )
    return written.getvalue()
