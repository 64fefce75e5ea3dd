"""Features: any image sizes, any chunks, equal bytes, and similar images lie near each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from quintile.core import errors
from quintile.engine import features

Image = npt.NDArray[np.uint8]


def striped(count: int, *, seed: int = 0, colour: bool = False) -> tuple[list[Image], list[int]]:
    """Images with stripes across (0) or down (1), shifted, of several sizes, noisy."""
    draw = np.random.default_rng(seed)
    images, kinds = [], []
    for row in range(count):
        side = 16 + 4 * (row % 3)
        wave = 127 + 90 * np.sin(np.arange(side) * 0.9 + draw.uniform(0, 6))
        flat = np.tile(wave, (side, 1)) + draw.normal(0, 12, (side, side))
        kind = int(draw.integers(2))
        image = np.clip(flat.T if kind else flat, 0, 255).astype(np.uint8)
        images.append(np.stack([image, image // 2, 255 - image], axis=-1) if colour else image)
        kinds.append(kind)
    return images, kinds


@pytest.mark.parametrize("colour", [False, True])
def test_nearest_neighbour_is_of_the_same_kind(colour: bool) -> None:
    images, kinds = striped(60, colour=colour)
    found = features.describe(images, seed=0)
    assert found.dtype == np.float64
    assert len(found) == 60
    assert (found**2).sum(axis=1).mean() == pytest.approx(1)
    distance = ((found[:, None] - found[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    nearest = distance.argmin(axis=1)
    assert (np.array(kinds)[nearest] == kinds).mean() > 0.9


def test_equal_inputs_give_equal_bytes_and_chunks_do_not_matter() -> None:
    images, _ = striped(48)
    assert (
        features.describe(images, seed=3).tobytes() == features.describe(images, seed=3).tobytes()
    )
    dictionary = features.learn(images[:24], seed=3)
    whole = features.describe_raw(images, dictionary)
    parts = [features.describe_raw(images[a : a + 32], dictionary) for a in (0, 32)]
    assert whole.tobytes() == np.concatenate(parts).tobytes()


def test_grey_and_its_colour_copy_are_described_alike() -> None:
    grey, _ = striped(30)
    colour = [np.stack([image] * 3, axis=-1) for image in grey]
    np.testing.assert_allclose(
        features.describe(grey, seed=0), features.describe(colour, seed=0), atol=1e-3
    )


def test_equal_images_and_single_images_are_no_trouble() -> None:
    same = [np.full((9, 9), 80, dtype=np.uint8)] * 5
    assert not features.describe(same, seed=0).any()
    assert features.describe(same[:1], seed=0).shape[0] == 1


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)],
    ids=["float", "four-channels", "empty"],
)
def test_what_is_no_image_is_refused(image: Image) -> None:
    with pytest.raises(errors.InvalidSpec, match="expected uint8 of shape HxW or HxWx3"):
        features.learn([image], seed=0)


def test_no_images_are_refused() -> None:
    with pytest.raises(errors.InvalidSpec, match="No images to learn features from"):
        features.learn([], seed=0)


def test_sample_rows_are_seeded_and_sorted() -> None:
    rows = features.sample_rows(10_000, seed=1, limit=50)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert len(rows) == 50
    assert rows.tolist() == features.sample_rows(10_000, seed=1, limit=50).tolist()
    assert features.sample_rows(7, seed=1).tolist() == list(range(7))
