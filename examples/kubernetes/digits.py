"""Write the 1,797 handwritten digits of scikit-learn as PNG files: a folder per class.

Beside it ``truth.csv`` says what each image shows; `quintile label simulate` answers from it.
"""

import csv
import pathlib

import numpy as np
from PIL import Image
from sklearn import datasets


def main() -> None:
    """Write them into the current folder."""
    bunch = datasets.load_digits()
    rows = [("name", "label")]
    for number, (pixels, digit) in enumerate(zip(bunch.images, bunch.target, strict=True)):
        path = pathlib.Path("digits", str(digit), f"{number:04d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(pixels * (255 / 16)).astype(np.uint8)).save(path)
        rows.append((f"{digit}/{path.name}", str(digit)))
    with pathlib.Path("truth.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    print(f"{len(rows) - 1} images in digits/, what they show in truth.csv")


if __name__ == "__main__":
    main()
