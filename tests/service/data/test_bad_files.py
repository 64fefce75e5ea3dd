"""Bad files and rows: each is left out of an import and named, and all others are taken."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

CLASSES = ["cat", "dog"]
GREY = np.zeros((2, 4, 4), dtype=np.uint8)
Source = Callable[[Any], bytes]


@pytest.fixture(scope="module")
def stocked(shared_world: Any) -> Any:
    shared_world.dataset()
    return shared_world


def bomb(make: Any) -> bytes:
    """A PNG that says it has 20,000 x 20,000 pixels."""
    data = bytearray(make.png())
    struct.pack_into("!LL", data, 16, 20_000, 20_000)

    struct.pack_into("!L", data, 29, zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def linked(make: Any) -> bytes:
    """A zip with one good image and one symbolic link."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("good.png", make.png())
        info = zipfile.ZipInfo("link.png")
        info.create_system = 3
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return sink.getvalue()


def patched(offset: int, form: str, value: int) -> Source:
    """A zip with a good image and one whose directory entry holds ``value`` at ``offset``."""

    def make_it(make: Any) -> bytes:
        data = bytearray(make.zip({"good.png": make.png(), "bad.png": make.png(1)}))
        place = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
        struct.pack_into(form, data, place + offset, value)
        return bytes(data)

    return make_it


def doubled(make: Any) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("good.png", make.png())
        archive.writestr("good.png", make.png(1))
    return sink.getvalue()


def beside(name: str, data: Source) -> Source:
    return lambda make: make.zip({"good.png": make.png(), name: data(make)})


def beside_png(name: str) -> Source:
    return beside(name, lambda make: make.png(1))


def corrupted(make: Any) -> bytes:
    data = bytearray(make.zip({"good.png": make.png(), "bad.png": make.png(1)}))
    data[data.index(b"bad.png") + 30] ^= 0xFF
    return bytes(data)


CSV = {"kind": "csv", "classes": CLASSES}
# fmt: off
FILES: dict[str, tuple[Source, dict[str, Any], str, int | None, str, str]] = {
    "a text with the name of an image": (beside("bad.png", lambda make: b"hello"), {}, "bad.png",
        None, "NotAnImage", "expected JPEG, PNG, WebP, BMP, GIF or TIFF"),
    "an image that ends early": (
        beside("bad.jpg", lambda make: make.encode(Image.new("RGB", (99, 99)), "JPEG")[:-100]),
        {}, "bad.jpg", None, "Truncated", "ends before its last row"),
    "an image with broken bytes": (
        beside("bad.png", lambda make: make.png(1)[:60] + b"\xff" * 10 + make.png(1)[70:]),
        {}, "bad.png", None, "Broken", "save it again with another program"),
    "an image with a broken beginning": (
        beside("bad.png", lambda make: make.png(1)[:20] + b"\xff" * 30 + make.png(1)[50:]),
        {}, "bad.png", None, "Broken", "damaged at its beginning"),
    "an image bomb": (beside("bad.png", bomb), {}, "bad.png", None, "TooManyPixels",
        "20000 x 20000 pixels; at most 64,000,000"),
    "a vector image": (
        beside("bad.svg", lambda make: b"<svg xmlns='http://www.w3.org/2000/svg'/>"), {},
        "bad.svg", None, "NotAnImage", "no image"),
    "an empty file": (beside("bad.png", lambda make: b""), {}, "bad.png", None, "Empty",
        "no bytes"),
    "a path out of the archive": (beside_png("../../etc/cron.png"), {}, "../../etc/cron.png",
        None, "UnsafeName", "leads out of the archive"),
    "an absolute path": (beside_png("/etc/bad.png"), {}, "/etc/bad.png", None, "UnsafeName",
        "absolute path"),
    "a drive letter": (beside_png("C:/bad.png"), {}, "C:/bad.png", None, "UnsafeName",
        "drive letter"),
    "a backslash": (beside_png("..\\bad.png"), {}, "..\\bad.png", None, "UnsafeName",
        "backslash"),
    "control characters": (beside_png("b\x1bad.png"), {}, "b\\x1bad.png", None, "UnsafeName",
        "control characters"),
    "an endless name": (beside_png("b" * 600 + ".png"), {}, "b" * 511 + "…", None, "UnsafeName",
        "604 characters; at most 512"),
    "a symbolic link": (linked, {}, "link.png", None, "Link", "symbolic link"),
    "a name twice": (doubled, {}, "good.png", None, "DuplicateName", "more than once"),
    "bytes changed on the way": (corrupted, {}, "bad.png", None, "Damaged",
        "damaged at this file"),
    "a password": (
        patched(8, "<H", 1),
        {}, "bad.png", None, "Encrypted", "without one"),
    "a strange flag": (
        patched(8, "<H", 0x20),
        {}, "bad.png", None, "Damaged", "zip it again"),
    "a strange compression": (
        patched(10, "<H", 98),
        {}, "bad.png", None, "Compression", "deflate or store"),
    "a giant file": (
        patched(24, "<L", 2**27 + 1),
        {}, "bad.png", None, "TooLarge", "134,217,729 bytes; at most 134,217,728"),
    "a file in no folder": (
        lambda make: make.zip({"cat/good.png": make.png(), "bad.png": make.png(1)}),
        {"labels_from": "folders"}, "bad.png", None, "NoClass", "expected CLASS/FILE"),
    "a folder that is no class": (
        lambda make: make.zip({"cat/good.png": make.png(), "cta/bad.png": make.png(1)}),
        {"labels_from": "folders", "classes": CLASSES}, "cta/bad.png", None, "UnknownClass",
        "did you mean 'cat'?"),
    "a row without its file": (beside_png("x/other.png"),
        {**CSV, "manifest": "file,label\ngood.png,cat\nx/other.png,cat\nother.png,dog\n"},
        "other.png", 4, "MissingFile", "did you mean 'x/other.png'?"),
    "a row with an unknown class": (beside_png("bad.png"),
        {**CSV, "manifest": "file,label\ngood.png,cat\nbad.png,cow\n"}, "bad.png", 3,
        "UnknownClass", "'cow' is none of the expected ones: cat, dog"),
    "a row twice": (lambda make: make.zip({"good.png": make.png()}),
        {**CSV, "manifest": "file,label\ngood.png,cat\ngood.png,dog\n"}, "good.png", 3,
        "DuplicateRow", "row 2 names it already"),
    "a row with too many cells": (beside_png("bad.png"),
        {**CSV, "manifest": "file,label\ngood.png,cat\nbad.png,cat,dog\n"}, "bad.png", 3,
        "BadRow", "3 columns and the header 2"),
    "a row that names no file": (lambda make: make.zip({"good.png": make.png()}),
        {**CSV, "manifest": "file,label\ngood.png,cat\n,dog\n"}, "", 3, "BadRow",
        "names no file"),
    "a file that no row names": (beside_png("bad.png"),
        {**CSV, "manifest": "file,label\ngood.png,cat\n"}, "bad.png", None, "NotInManifest",
        "no row of the manifest"),
    "an array label that is no class": (
        lambda make: make.npz(images=GREY, labels=np.array([0, 7])),
        {"kind": "numpy", "classes": CLASSES}, "00001.png", 1, "UnknownClass",
        "'7' is none of the expected ones"),
    "an array name twice": (lambda make: make.npz(images=GREY, names=np.array(["a", "a"])),
        {"kind": "numpy"}, "a", 1, "DuplicateName", "image 0 has this name already"),
}
# fmt: on


@pytest.mark.parametrize("row", FILES.values(), ids=FILES.keys())
def test_files_are_left_out_and_named(
    stocked: Any,
    make: Any,
    row: tuple[Source, dict[str, Any], str, int | None, str, str],
) -> None:
    data, fields, name, number, reason, words = row
    view = stocked.imported(data(make), **fields)
    assert view.rejected_total == len(view.rejected)
    found = [bad for bad in view.rejected if (bad.name, bad.row) == (name, number)]
    assert [bad.reason for bad in found] == [reason], view.rejected
    assert words in found[0].message
    assert view.imported == view.total - view.rejected_total >= 1
    assert stocked.version(view.version).items == view.imported
