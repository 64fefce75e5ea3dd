"""What is uploaded: a zip that is made while it is sent, pieces, tables."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintile.core import errors
from quintile.sdk import importing, sources


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    (root / "cat").mkdir(parents=True)
    (root / "cat" / "a.png").write_bytes(b"a" * 3_000_000)
    (root / "b.png").write_bytes(b"b")
    (root / "empty.png").write_bytes(b"")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "c.png").write_bytes(b"c")
    (root / ".DS_Store").write_bytes(b"x")
    return root


def whole(source: sources.Source) -> bytes:
    return b"".join(source.chunks())


def test_a_folder_is_a_zip_with_the_same_bytes_every_time(images: Path) -> None:
    source = sources.folder(images)
    data = whole(source)
    assert whole(source) == data
    measured = sources.measure(source)
    assert measured.size_bytes == len(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["b.png", "cat/a.png", "empty.png"]
        assert archive.testzip() is None
        assert archive.read("cat/a.png") == b"a" * 3_000_000


def test_a_folder_is_never_whole_in_memory(images: Path) -> None:
    assert max(len(data) for data in sources.folder(images).chunks()) < 2_000_000


@given(
    st.lists(st.binary(max_size=50), max_size=20),
    st.integers(min_value=1, max_value=64),
    st.integers(min_value=0, max_value=200),
)
def test_pieces_are_the_source_after_what_is_skipped(
    chunks: list[bytes], size: int, skip: int
) -> None:
    class Chunks:
        def chunks(self) -> object:
            return iter(chunks)

    data = b"".join(chunks)
    found = list(sources.pieces(Chunks(), size_bytes=size, skip_bytes=skip))  # type: ignore[arg-type]
    assert b"".join(found) == data[skip:]
    assert all(len(piece) == size for piece in found[:-1])
    assert all(found)


def test_what_is_no_text_is_sent_under_a_name_that_the_server_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.png")).write_bytes(b"b")
    data = whole(sources.folder(tmp_path))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["a.png", "b\\udcff.png"]


class TestTables:
    def test_only_files_inside_are_sent(self, images: Path) -> None:
        found = sources.listed(images, ["b.png", "../secret.png", "/etc/passwd", "missing.png"])
        assert found.names == ("b.png",)

    def test_nothing_there(self, images: Path) -> None:
        with pytest.raises(errors.InvalidSpec, match="None of the files"):
            sources.listed(images, ["missing.png"])

    def test_names(self) -> None:
        assert sources.names_of_csv("file, label\n a.png ,x\n,y\nb.png,\n") == ("a.png", "b.png")

    @pytest.mark.parametrize(
        "text", ["\ufefffile,label\na.png,x\n", "File;Label\na.png;x\n", "label\tFILE\nx\ta.png\n"]
    )
    def test_names_as_spreadsheets_write_them(self, text: str) -> None:
        assert sources.names_of_csv(text.removeprefix("\ufeff")) == ("a.png",)

    def test_a_cell_without_end(self) -> None:
        with pytest.raises(errors.InvalidSpec, match="cannot be read at line 2") as caught:
            sources.names_of_csv(f"file,label\na.png,{'x' * 200_000}\n")
        assert caught.value.hint

    @pytest.mark.parametrize("text", ["", "name,label\na,b\n"])
    def test_no_column_of_files(self, text: str) -> None:
        with pytest.raises(errors.InvalidSpec, match="no column 'file'"):
            sources.names_of_csv(text)


class TestPlans:
    def test_kinds_by_name(self, images: Path, tmp_path: Path) -> None:
        for name in ("a.zip", "a.npz", "a.npy"):
            (tmp_path / name).write_bytes(b"x")
        (images / "t.csv").write_text("file,label\nb.png,x\n")
        kinds = {
            "folder": importing.plan(images).kind,
            "zip": importing.plan(tmp_path / "a.zip").kind,
            "npz": importing.plan(tmp_path / "a.npz").kind,
            "npy": importing.plan(tmp_path / "a.npy").kind,
            "csv": importing.plan(images / "t.csv").kind,
        }
        assert kinds == {
            "folder": "zip",
            "zip": "zip",
            "npz": "numpy",
            "npy": "numpy",
            "csv": "csv",
        }

    @pytest.mark.parametrize(
        ("name", "message"),
        [("missing", "There is no file or folder"), ("a.tar", "no source that can be imported")],
    )
    def test_what_is_no_source(self, tmp_path: Path, name: str, message: str) -> None:
        (tmp_path / "a.tar").write_bytes(b"x")
        with pytest.raises(errors.InvalidSpec, match=message):
            importing.plan(tmp_path / name)

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(errors.InvalidSpec, match="holds no files"):
            importing.plan(tmp_path)

    def test_a_table_that_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(errors.InvalidSpec, match="cannot be read as UTF-8"):
            importing.plan(tmp_path / "t.csv")

    def test_an_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.zip").write_bytes(b"")
        with pytest.raises(errors.InvalidSpec, match="is empty"):
            sources.measure(importing.plan(tmp_path / "a.zip").source)
