"""Pools with known truth, as a labeling job would see them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from quintile.engine import features

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pool:
    """N items sorted by id: ids [N], features [N, D], true classes [N], class names."""

    name: str
    item_ids: npt.NDArray[np.str_]
    features: npt.NDArray[np.float64]
    truth: npt.NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.truth)


def digits(*, copies: float = 0.0, seed: int = 0) -> Pool:
    """Return the 1,797 handwritten digits that ship with scikit-learn.

    ``copies`` adds this share of them once more, each pixel changed by a few grey levels.
    """
    from sklearn import datasets

    found = datasets.load_digits()
    images = [np.round(image / 16 * 255).astype(np.uint8) for image in found.images]
    truth = np.asarray(found.target)
    if copies:
        draw = np.random.default_rng(seed)
        again = draw.permutation(len(images))[: round(copies * len(images))]
        noisy = [images[row] + draw.normal(0, 4, images[row].shape) for row in again]
        images += [np.clip(image, 0, 255).astype(np.uint8) for image in noisy]
        truth = np.concatenate([truth, truth[again]])
    return _pool("digits", images, truth, tuple("0123456789"), seed=seed)


def fashion(folder: Path, *, size: int, seed: int = 0, part: str = "train") -> Pool:
    """Return a class-balanced draw of Fashion-MNIST, from its idx files."""
    images = _idx(folder / f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    truth = _idx(folder / f"{part}-labels-idx1-ubyte.gz", 8)
    draw = np.random.default_rng(seed)
    rows = np.concatenate(
        [draw.permutation(np.flatnonzero(truth == one))[: size // 10] for one in range(10)]
    )
    names = [
        "top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "boot",
    ]
    return _pool("fashion", list(images[rows]), truth[rows], tuple(names), seed=seed)


def tiles(folder: Path, *, seed: int = 0) -> Pool:
    """Return the magnetic tiles: ``images.tar`` with ``labels.csv`` (file, class)."""
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    with tarfile.open(folder / "images.tar") as archive:
        stored = {member.name: archive.extractfile(member) for member in archive}
        images = [np.asarray(Image.open(io.BytesIO(_bytes(stored[row["file"]])))) for row in rows]
    names = tuple(sorted({row["class"] for row in rows}))
    truth = np.array([names.index(row["class"]) for row in rows])
    return _pool("tiles", images, truth, names, seed=seed)


def folder(path: Path, *, size: int, seed: int) -> Pool:
    """Return the pool that a data folder holds, known by its files."""
    if (path / "train-images-idx3-ubyte.gz").exists():
        return fashion(path, size=size, seed=seed)
    if (path / "labels.csv").exists() and (path / "images.tar").exists():
        return tiles(path, seed=seed)
    raise SystemExit(f"{path} holds neither idx files nor labels.csv with images.tar")


def _pool(
    name: str,
    images: list[Pixels],
    truth: npt.NDArray[np.int64],
    classes: tuple[str, ...],
    *,
    seed: int,
) -> Pool:
    texts = [
        hashlib.sha256(f"{name}-{row:05d}".encode() + image.tobytes()).hexdigest()[:16]
        for row, image in enumerate(images)
    ]
    order = np.argsort(texts, kind="stable")
    found = features.describe([images[row] for row in order], seed=seed)
    return Pool(
        name=name,
        item_ids=np.asarray(texts)[order],
        features=found,
        truth=np.asarray(truth, dtype=np.int64)[order],
        classes=classes,
    )


def _idx(path: Path, offset: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=offset)


def _bytes(file: object) -> bytes:
    assert isinstance(file, io.BufferedIOBase)
    return file.read()
