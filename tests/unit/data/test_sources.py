"""What an archive, a table or a name may be, judged without decoding an image."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from quintile.core import errors
from quintile_api.data import archives, arrays, candidates, tables_csv

NAMES = ["a/1.png", "a/2.png", "b/3.png"]


def zipped(*names: str, size: int = 10) -> io.BufferedReader:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, bytes(size))
    return io.BufferedReader(io.BytesIO(sink.getvalue()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["a/1.png", "b/2.png"], ["a", "b"]),
        (["data/a/1.png", "data/b/2.png"], ["a", "b"]),
        (["data/a/x/1.png", "data/a/2.png"], ["a", "a"]),
        (["data/a/1.png", "data/a/2.png"], ["a", "a"]),
        (["train/a/1.png", "test/a/2.png"], ["test", "train"]),
    ],
)
def test_the_class_is_the_first_folder_that_differs(names: list[str], labels: list[str]) -> None:
    found = archives.images(archives.open_archive(zipped(*names)), classes=(), from_folders=True)
    assert [one.label for one in found.candidates] == labels


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (archives.Limits(members=2), "3 files"),
        (archives.Limits(total_bytes=2_999), "unpacks to 3,000 bytes"),
        (archives.Limits(ratio=2, ratio_free_bytes=10), "more than 2 times as much"),
        (archives.Limits(directory_bytes=10), "a directory of"),
    ],
    ids=["members", "total", "ratio", "directory"],
)
def test_archives_are_bounded(limits: archives.Limits, words: str) -> None:
    with pytest.raises(errors.TooLarge) as refused:
        archives.open_archive(zipped(*NAMES, size=1000), limits)
    assert words in refused.value.message
    assert refused.value.hint


def test_a_member_is_never_read_beyond_its_limit() -> None:
    archive = archives.open_archive(zipped("a.png", size=100), archives.Limits(file_bytes=99))
    assert [bad.reason for bad in archive.rejected] == ["TooLarge"]
    assert not archive.members


def test_arrays_are_bounded() -> None:
    sink = io.BytesIO()
    np.save(sink, np.zeros((5, 1, 1), np.uint8))
    source = io.BufferedReader(io.BytesIO(sink.getvalue()))  # type: ignore[arg-type]
    with pytest.raises(errors.TooLarge, match="5 images; at most 4"):
        arrays.images(source, classes=(), limits=archives.Limits(members=4))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("file,label\na,x\n", [(2, "a", "x")]),
        ("\ufefffile;label\r\na;x\r\n", [(2, "a", "x")]),
        ("LABEL\tFile\nx\ta\n", [(2, "a", "x")]),
        ("file,label,note\na,,hello\n\nb,x,\n", [(2, "a", None), (4, "b", "x")]),
        ('file,label\n"a,1\nb",x\nc,y\n', [(2, "a,1\nb", "x"), (4, "c", "y")]),
        ("file\na\n", [(2, "a", None)]),
    ],
)
def test_tables_are_read_by_column_name(text: str, rows: list[tuple[int, str, str | None]]) -> None:
    found = tables_csv.read(text, key="file", field="manifest")
    assert list(found.rows) == rows
    assert not found.rejected


def test_lost_characters_are_named() -> None:
    found = tables_csv.read("file,label\nf\ufffdte.png,x\n", key="file", field="manifest")
    assert [(bad.row, bad.reason) for bad in found.rejected] == [(2, "BadEncoding")]


def test_natural_order() -> None:
    names = ["10", "9", "b2", "b10", "a", "b"]
    assert sorted(names, key=candidates.natural) == ["9", "10", "a", "b", "b2", "b10"]


@pytest.mark.parametrize("name", ["a.png", "a/b.png", "ümlaut/日本.png", "..a/b..png", "a b.png"])
def test_ordinary_names_are_safe(name: str) -> None:
    assert candidates.unsafe(name) == ""


@pytest.mark.parametrize("name", ["", "a//b", "./a", "a/.", "a/../b", "/a", "d:x", "a\\b", "a\nb"])
def test_misleading_names_are_not(name: str) -> None:
    assert candidates.unsafe(name)
