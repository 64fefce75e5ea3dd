"""Datasets through the notebook SDK, against the real API."""

from __future__ import annotations

import io
import pathlib
import zipfile

import numpy as np
import pytest
from PIL import Image

from quintile.core import errors
from quintile.sdk import Dataset, blocking, importing

SHADES = (10, 60, 120, 200)


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), shade).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two classes, two images each, a file that is no image and a hidden one."""
    root = tmp_path / "images"
    for number, shade in enumerate(SHADES):
        place = root / ("dark" if shade < 100 else "light")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(png(shade))
    (root / "light" / "notes.txt").write_text("no image")
    (root / ".DS_Store").write_bytes(b"hidden")
    return root


@pytest.mark.usefixtures("session")
class TestImports:
    def test_a_folder_becomes_a_version_and_the_bad_file_is_named(
        self, folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        made = Dataset.create("shades").import_folder(folder, labels="folders")
        assert (made.name, made.version, made.view.items) == ("shades", 1, 4)
        assert made.classes == ("dark", "light")
        assert made.report is not None
        assert [one.name for one in made.report.rejected] == ["light/notes.txt"]
        assert "light/notes.txt" in capsys.readouterr().err
        assert {item.label for item in made.items()} == {"dark", "light"}
        assert [item.label for item in made.items(label="dark")] == ["dark", "dark"]

    def test_a_zip_keeps_its_images_unlabelled(
        self, folder: pathlib.Path, tmp_path: pathlib.Path
    ) -> None:
        path = tmp_path / "images.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*.png")):
                archive.write(file, file.name)
        made = Dataset.create("plain").import_zip(path, classes=["dark", "light"])
        assert (made.view.items, made.view.labelled) == (4, 0)
        assert made.classes == ("dark", "light")

    def test_a_table_names_its_images(self, folder: pathlib.Path) -> None:
        table = folder / "labels.csv"
        table.write_text("file,label\ndark/0.png,dark\nlight/2.png,light\nlight/9.png,light\n")
        made = Dataset.create("listed").import_csv(table)
        assert (made.view.items, made.view.labelled) == (2, 2)
        assert made.report is not None
        assert [one.name for one in made.report.rejected] == ["light/9.png"]

    def test_arrays_become_images(self) -> None:
        images = np.stack([np.full((8, 8), shade, np.uint8) for shade in SHADES])
        made = Dataset.create("arrays").import_numpy({"images": images, "labels": ["a", "b"] * 2})
        assert (made.view.items, made.view.labelled, made.classes) == (4, 4, ("a", "b"))

    def test_a_source_goes_out_in_pieces(
        self, session: blocking.Session, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(importing, "PIECE_BYTES", 65_536)
        big = folder / "dark" / "noise.bmp"
        noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
        Image.fromarray(noise).save(big)
        made = Dataset.create("pieces").import_folder(folder)
        assert made.view.items == 5
        assert session.run(session.client.datasets.get("default", "pieces")).newest_version == 1

    def test_nothing_good_says_why(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "a.png").write_bytes(b"not an image")
        with pytest.raises(errors.InvalidSpec, match=r"Nothing was imported into 'none'.*a\.png"):
            Dataset.create("none").import_folder(tmp_path / "bad")


class TestVersions:
    @pytest.fixture
    def shades(self, session: blocking.Session, folder: pathlib.Path) -> Dataset:
        del session
        made = Dataset.create("shades")
        made.import_folder(folder, labels="folders")
        return made

    def test_a_split_names_what_experiments_read(self, shades: Dataset) -> None:
        ref = shades.version().split("holdout", {"test": 0.5}, seed=3)
        assert str(ref) == "shades:1/holdout"
        assert ref.document() == {
            "name": "shades",
            "version": 1,
            "split": "holdout",
            "train": "train",
            "evaluate": "test",
        }
        assert [one.parts for one in shades.version().splits()] == [{"test": 2, "train": 2}]

    def test_versions_are_listed(self, shades: Dataset, folder: pathlib.Path) -> None:
        shades.import_folder(folder)
        assert [one.version for one in shades.versions()] == [1, 2]
        assert shades.version(1).view.labelled == 4
        assert "dark" in shades.version(1).labels_csv()

    def test_a_dataset_can_go(self, shades: Dataset) -> None:
        shades.delete()
        with pytest.raises(errors.NotFound):
            Dataset.get("shades")

    def test_a_bad_name_is_refused_before_it_is_sent(self, session: blocking.Session) -> None:
        del session
        with pytest.raises(errors.InvalidSpec, match="The dataset is invalid: name"):
            Dataset.create("Not A Name")
