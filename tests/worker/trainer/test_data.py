"""From stored images to batches: decoding, augmentation, feeds, and which rows train."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quintile.adapters import dataset_tables
from quintile.testing import digits, objects
from quintile_trainer import failures
from quintile_trainer.data import augment, cache, dataset, decode, images, order

pytestmark = pytest.mark.torch
MEANS = images.Means(threads=2, keep_bytes=10**9)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def gradient(height: int = 20, width: int = 30) -> Image.Image:
    rows = np.linspace(0, 255, height)[:, None, None] * np.ones((1, width, 3))
    rows[..., 1] = np.linspace(0, 255, width)[None]
    return Image.fromarray(rows.astype(np.uint8))


class TestDecode:
    """Bytes to pixels."""

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_every_format_comes_out_alike(self, kind: str, channels: int) -> None:
        pixels = decode.decode(encoded(gradient(), kind), size=(20, 30), channels=channels)
        assert (pixels.shape, pixels.dtype) == ((20, 30, channels), np.uint8)
        wanted = gradient().convert("L") if channels == 1 else gradient()
        difference = np.abs(pixels.squeeze().astype(int) - np.asarray(wanted).astype(int))
        assert difference.mean() < 6

    def test_images_are_scaled(self) -> None:
        pixels = decode.decode(encoded(gradient(), "JPEG"), size=(8, 9), channels=3)
        assert pixels.shape == (8, 9, 3)

    def test_images_are_upright(self) -> None:
        exif = Image.Exif()
        exif[decode.ORIENTATION_TAG] = 6
        data = encoded(gradient(20, 30), "JPEG", exif=exif, quality=95)
        pixels = decode.decode(data, size=(30, 20), channels=3)
        turned = np.asarray(gradient(20, 30).transpose(Image.Transpose.ROTATE_270))
        assert np.abs(pixels.astype(int) - turned.astype(int)).mean() < 5

    def test_transparency_is_white(self) -> None:
        clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
        assert decode.decode(encoded(clear, "PNG"), size=(4, 4), channels=3).min() == 255

    def test_sixteen_bits_become_eight(self) -> None:
        deep = Image.fromarray(np.array([[0, 65535]], np.uint16))
        data = encoded(deep, "PNG")
        assert decode.decode(data, size=(1, 2), channels=1).ravel().tolist() == [0, 255]
        assert decode.is_grey(data)

    @pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n12"])
    def test_what_is_no_image_is_refused(self, data: bytes) -> None:
        with pytest.raises(decode.UNREADABLE):
            decode.decode(data, size=(8, 8), channels=1)

    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    @pytest.mark.parametrize("size", [(20, 30), (8, 9)])
    def test_into_a_batch_it_comes_out_the_same(self, kind: str, size: tuple[int, int]) -> None:
        data = encoded(gradient(), kind)
        batch = np.zeros((2, *size, 3), np.uint8)
        decode.decode_into(batch[1], data)
        assert np.array_equal(batch[1], decode.decode(data, size=size, channels=3))
        assert not batch[0].any()


class TestAugment:
    """Changes that are functions of the sample's seed."""

    batch = np.random.default_rng(0).integers(0, 256, (6, 9, 7, 3), dtype=np.uint8)
    seeds = np.arange(6, dtype=np.int64) * 7919

    def test_equal_seeds_give_equal_changes_in_any_company(self) -> None:
        whole = augment.augment(self.batch, self.seeds, shift=2, flip=True)
        alone = [
            augment.augment(self.batch[i : i + 1], self.seeds[i : i + 1], shift=2, flip=True)
            for i in range(6)
        ]
        assert np.array_equal(whole, np.concatenate(alone))
        assert whole.shape == (6, 3, 9, 7)
        other = augment.augment(self.batch, self.seeds + 1, shift=2, flip=True)
        assert not np.array_equal(whole, other)

    def test_every_way_to_move_occurs_and_nothing_else(self) -> None:
        image = np.zeros((1, 5, 5, 1), np.uint8)
        image[0, 2, 2, 0] = 255
        many = np.repeat(image, 400, axis=0)
        seeds = order.draws(np.arange(400)).astype(np.int64) >> 1
        planes = augment.augment(many, seeds, shift=1, flip=False)
        places = {tuple(np.argwhere(plane[0] == 255)[0].tolist()) for plane in planes}
        assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}

    def test_half_are_mirrored(self) -> None:
        many = np.repeat(self.batch[:1], 400, axis=0)
        planes = augment.augment(many, np.arange(400), shift=0, flip=True)
        plain = self.batch[0].transpose(2, 0, 1)
        mirrored = sum(np.array_equal(plane, plain[..., ::-1]) for plane in planes)
        assert mirrored + sum(np.array_equal(plane, plain) for plane in planes) == 400
        assert 150 < mirrored < 250


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], cache.Cache]:
    """A small version of the digits in files, and how a rank is told of it."""
    folder = tmp_path_factory.mktemp("objects")
    store = objects.FakeObjectStore()
    version = digits.store(store, items=200, shard_bytes=20_000)
    for info in store.list(""):
        path = folder / info.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get(info.key))
    access = version.access(lambda key: (folder / key).as_uri()).model_dump(mode="json")
    return access, cache.Cache(folder / "cache")


def opened(stored: tuple[dict[str, Any], cache.Cache], **reference: Any) -> dataset.Dataset:
    return dataset.open_dataset(stored[0], reference, stored[1], seed=0)


class TestDataset:
    """A version as a rank sees it."""

    def test_parts_of_the_split(self, stored: Any) -> None:
        found = opened(stored)
        assert (len(found.train), len(found.evaluate)) == (160, 40)
        assert not set(found.train.rows) & set(found.evaluate.rows)
        assert found.classes == digits.CLASSES
        assert len(found.shards) > 1
        assert found.evaluate.trusted

    def test_labels_belong_to_their_images(self, stored: Any) -> None:
        found = opened(stored)
        names = [item.name for item in found.manifest.items(found.train.rows)]
        truth = [digits.pngs()[int(name[:4])][1] for name in names]
        assert found.train.labels.tolist() == truth

    def test_without_a_split_a_tenth_is_held_out(self, stored: Any) -> None:
        access = {**stored[0], "split_url": ""}
        found = dataset.open_dataset(access, {}, stored[1], seed=0)
        assert 10 <= len(found.evaluate) <= 32
        assert len(found.train) + len(found.evaluate) == 200
        other = dataset.open_dataset(access, {}, stored[1], seed=1)
        assert set(found.evaluate.rows) != set(other.evaluate.rows)

    def test_an_empty_part_is_refused(self, stored: Any) -> None:
        with pytest.raises(
            failures.BadInput, match="no labelled items to train on in part 'trian'"
        ):
            opened(stored, train="trian")
        with pytest.raises(failures.BadInput, match="no labelled items"):
            opened(stored, sources=["auto"])

    def test_machine_labels_narrow_and_taint(self) -> None:
        ids = [f"{number:016x}" for number in range(4)]
        items = [dataset_tables.Item(ident, ident, 0, 0, 1, "0" * 64, 8, 8, "PNG") for ident in ids]
        manifest = dataset_tables.read_manifest(dataset_tables.manifest_table(items).data)
        rows = [
            dataset_tables.Label(ids[0], 0, "a", "human"),
            dataset_tables.Label(ids[1], 1, "b", "auto", score=0.9),
            dataset_tables.Label(ids[2], 1, "b", "auto", score=0.5),
            dataset_tables.Label(ids[3], 1, "b", "auto"),
        ]
        labels = dataset_tables.read_labels(dataset_tables.labels_table(rows).data)

        def parts(truth: int, **reference: Any) -> tuple[dataset.Part, dataset.Part]:
            table = dataset_tables.split_table(ids, ["train"] * 3 + ["test"], [-1, -1, -1, truth])
            split = dataset_tables.read_split(table.data)
            return dataset.choose_parts(manifest, labels, split, reference, seed=0)

        train, evaluate = parts(0)
        assert train.labels.tolist() == [0, 1, 1]
        # The truth of the split wins over the machine's label, and may be called accuracy.
        assert (evaluate.labels.tolist(), evaluate.trusted) == ([0], True)
        assert not parts(-1)[1].trusted
        assert parts(0, minConfidence="0.8")[0].labels.tolist() == [0, 1]
        assert parts(0, sources=["human"])[0].labels.tolist() == [0]


class TestImages:
    """Decoded batches."""

    def source(self, stored: Any, means: images.Means = MEANS) -> images.ImageSource:
        found = opened(stored)
        return images.ImageSource(found, found.train, images.Shape(8, 8, 1), means)

    def test_kept_or_not_and_expected_or_not_the_pixels_are_the_same(self, stored: Any) -> None:
        kept = self.source(stored)
        fresh = self.source(stored, images.Means(threads=3, keep_bytes=0))
        items = np.array([5, 3, 5, 150, 0])
        first = kept.batch(items)
        assert first.shape == (5, 8, 8, 1)
        fresh.expect(np.array([0, 3, 77]))
        assert np.array_equal(first, fresh.batch(items))
        assert np.array_equal(first, kept.batch(items))
        assert kept.batch(items[:0]).shape == (0, 8, 8, 1)
        for source in (kept, fresh):
            source.close()

    def test_shape_and_colour_are_those_of_the_images(self, stored: Any) -> None:
        found = opened(stored)
        assert images.natural_size(found) == (8, 8)
        assert images.natural_channels(found) == 1

    def test_statistics_are_those_of_the_pixels(self, stored: Any) -> None:
        source = self.source(stored)
        mean, spread = images.statistics(source)
        pixels = source.batch(np.arange(len(source))) / 255.0
        assert mean == [pytest.approx(pixels.mean())]
        assert spread == [pytest.approx(pixels.std())]

    def test_an_image_that_cannot_be_decoded_is_named(self, stored: Any, tmp_path: Path) -> None:
        found = opened(stored)
        shards = {}
        for index, path in found.shards.items():
            shards[index] = tmp_path / str(index)
            shards[index].write_bytes(bytes(path.stat().st_size))
        spoiled = dataclasses.replace(found, shards=shards)
        source = images.ImageSource(spoiled, spoiled.train, images.Shape(8, 8, 1), MEANS)
        with pytest.raises(failures.BadInput, match=r"image '\d{4}\.png' cannot be decoded"):
            source.batch(np.array([0]))

    def test_a_batch_that_somebody_holds_is_never_written_again(self, stored: Any) -> None:
        source = self.source(stored, images.Means(threads=2, keep_bytes=0))
        items = np.arange(8)
        wanted = [source.batch(items + 8 * turn).copy() for turn in range(8)]
        held = [source.batch(items + 8 * turn)[::2] for turn in range(8)]
        for found, whole in zip(held, wanted, strict=True):
            assert np.array_equal(found, whole[::2])
        source.close()


class TestCache:
    """Files by URL and digest."""

    def test_a_file_is_fetched_once(self, tmp_path: Path) -> None:
        source = tmp_path / "shard"
        source.write_bytes(b"bytes")
        digest = hashlib.sha256(b"bytes").hexdigest()
        files = cache.Cache(tmp_path / "cache")
        path = files.fetch(source.as_uri(), digest)
        source.unlink()
        assert files.fetch(source.as_uri(), digest) == path
        assert path.read_bytes() == b"bytes"

    def test_other_bytes_are_never_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache, "FIRST_PAUSE_S", 0.0)
        source = tmp_path / "shard"
        source.write_bytes(b"other")
        files = cache.Cache(tmp_path / "cache")
        with pytest.raises(failures.Broken, match="its SHA-256 is d9298a10d1b0, not 000000000000"):
            files.fetch(source.as_uri(), "0" * 64)
        kept = [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]
        assert kept == []

    def test_secrets_of_urls_stay_out_of_messages(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache, "FIRST_PAUSE_S", 0.0)
        url = f"{(tmp_path / 'none').as_uri()}?signature=1234abcd"
        with pytest.raises(failures.Broken) as refused:
            cache.read(url)
        assert "1234abcd" not in str(refused.value)
