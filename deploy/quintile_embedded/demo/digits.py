"""The images of the demo: 1,797 handwritten digits that ship with scikit-learn, as PNG files."""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

CLASSES: Final = tuple(str(digit) for digit in range(10))
BRIGHTEST: Final = 16
"""Pixels of the source are 0..16."""


@dataclass(frozen=True)
class Digits:
    """Images as a zip, and what they truly show by file name."""

    archive: bytes
    truth: dict[str, str]

    def truth_csv(self) -> str:
        """Return the truth as the CSV text that splits and the scripted annotator read."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("name", "label"))
        writer.writerows(self.truth.items())
        return text.getvalue()


def load() -> Digits:
    """Return all digits; names say nothing about labels."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    pixels = np.round(bunch.images * (255 / BRIGHTEST)).astype(np.uint8)
    truth: dict[str, str] = {}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for number, (image, digit) in enumerate(zip(pixels, bunch.target, strict=True)):
            name = f"digit-{number:04d}.png"
            file.writestr(zipfile.ZipInfo(name), _png(image))
            truth[name] = CLASSES[int(digit)]
    return Digits(archive.getvalue(), truth)


def _png(pixels: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels, mode="L").save(data, "PNG")
    return data.getvalue()
