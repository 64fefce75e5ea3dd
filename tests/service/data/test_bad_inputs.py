"""Bad input: each row with its status, problem type, field and words of the message.

Two tables: requests that are refused at once, and sources whose import fails as a whole; nothing
is ever half-done. Single files and rows are in ``test_bad_files``.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from quintile_api.data import uploads

ITEMS = "abc"
CLASSES = ["cat", "dog"]
TRUTH = "name,label\na.png,cat\nb.png,dog\nc.png,cat\n"
V1 = "datasets/digits/versions/1"
Row = tuple[str, str, Any, int, str, str]
Source = Callable[[Any], bytes]
TYPES = {404: "not-found", 409: "conflict", 413: "too-large", 422: "invalid-spec"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def stocked(shared_world: Any, make: Any) -> Any:
    """Version 1: a.png (cat), b.png (dog), c.png (unlabelled); one complete upload, one begun."""
    world = shared_world
    world.dataset()
    files = {f"{name}.png": make.png(place) for place, name in enumerate(ITEMS)}
    manifest = "file,label\na.png,cat\nb.png,dog\nc.png,\n"
    world.imported(make.zip(files), kind="csv", manifest=manifest, classes=CLASSES)
    world.names = {
        "$complete": world.upload(make.zip(files)),
        "$begun": world.post("uploads", {"size": 200_000}).json()["id"],
        **{f"${item.name[0]}": item.item_id for item in world.items()},
    }
    return world


def split(**changes: Any) -> dict[str, Any]:
    return {"name": "holdout", "parts": {"test": "1"}, **changes}


def source(**changes: Any) -> dict[str, Any]:
    return {"upload_id": "$complete", "kind": "zip", **changes}


def labels(*rows: dict[str, Any], **head: Any) -> list[dict[str, Any]]:
    first = {"parent": 1, "classes": CLASSES, "idempotency_key": "k", **head}
    return [first, *({"source": "human", **row} for row in rows)]


D = "datasets"
U = "uploads"
IMPORTS = "datasets/digits/imports"
VERSIONS = "datasets/digits/versions"
SPLITS = f"{V1}/splits"
# fmt: off
REQUESTS: dict[str, Row] = {
    "dataset name taken": ("POST", D, {"name": "digits"}, 409, "name", "already"),
    "dataset name": ("POST", D, {"name": "My Digits"}, 422, "name", "'My Digits'"),
    "dataset path": ("POST", D, {"name": "../etc"}, 422, "name", "'../etc'"),
    "unknown field": ("POST", D, {"name": "x", "colour": 1}, 422, "colour", "known"),
    "no dataset": ("GET", "datasets/faces", None, 404, "", "no dataset 'faces'"),
    "import into no dataset": ("POST", "datasets/faces/imports", source(), 404, "",
        "create it first"),
    "delete no dataset": ("DELETE", "datasets/faces", None, 404, "", "'faces'"),
    "upload of nothing": ("POST", U, {"size": 0}, 422, "size", "got 0"),
    "upload of too much": ("POST", U, {"size": 2**50}, 413, "size", "at most"),
    "upload with a bad digest": ("POST", U, {"size": 1, "sha256": "abc"}, 422, "sha256", "'abc'"),
    "no upload": ("GET", "uploads/none", None, 404, "", "forgotten after a day"),
    "wrong offset": ("PUT", "uploads/$begun?offset=7", b"x", 409, "offset", "byte 0"),
    "negative offset": ("PUT", "uploads/$begun?offset=-1", b"x", 422, "offset", "-1"),
    "small piece": ("PUT", "uploads/$begun?offset=0", b"x", 422, "offset", "at least 65,536"),
    "piece beyond the end": ("PUT", "uploads/$begun?offset=0", bytes(200_001), 422, "offset",
        "byte 200,001 of an upload of 200,000"),
    "huge piece": ("PUT", "uploads/$begun?offset=0", bytes(uploads.PIECE_LIMIT_BYTES + 1), 413,
        "", "67,108,865"),
    "import of no upload": ("POST", IMPORTS, source(upload_id="none"), 404, "",
        "no upload 'none'"),
    "import of half an upload": ("POST", IMPORTS, source(upload_id="$begun"), 422, "upload_id",
        "0 of 200,000 bytes"),
    "unknown kind": ("POST", IMPORTS, source(kind="rar"), 422, "kind", "'rar'"),
    "csv without manifest": ("POST", IMPORTS, source(kind="csv"), 422, "manifest",
        "needs the manifest"),
    "zip with manifest": ("POST", IMPORTS, source(manifest="file\na"), 422, "manifest",
        "takes no manifest"),
    "folders of an array": ("POST", IMPORTS, source(kind="numpy", labels_from="folders"), 422,
        "labels_from", "expected kind 'zip'"),
    "manifest labels of a zip": ("POST", IMPORTS, source(labels_from="manifest"), 422,
        "labels_from", "expected kind 'csv'"),
    "doubled class": ("POST", IMPORTS, source(classes=["cat", "cat"]), 422, "classes",
        "'cat' more than once"),
    "empty class": ("POST", IMPORTS, source(classes=["cat", " "]), 422, "classes.1", "Class 1"),
    "no import": ("GET", f"{IMPORTS}/none", None, 404, "", "no import 'none'"),
    "no version": ("GET", f"{VERSIONS}/9", None, 404, "", "its newest is 1"),
    "version zero of nothing": ("GET", f"{VERSIONS}/-1", None, 422, "version", "got '-1'"),
    "enormous version": ("GET", f"{VERSIONS}/{2**63}", None, 422, "version", "less"),
    "part is no number": ("POST", SPLITS, split(parts={"test": "many"}), 422, "parts.test",
        "expected a count (360), a fraction (0.2) or a percentage (20%)"),
    "negative part": ("POST", SPLITS, split(parts={"test": "-1"}), 422, "parts.test", "'-1'"),
    "part of more than all": ("POST", SPLITS, split(parts={"test": "1.5"}), 422, "parts.test",
        "more than the whole"),
    "more items than there are": ("POST", SPLITS, split(parts={"test": "2", "val": "2"}), 422,
        "parts", "want 4 items; the version has 3"),
    "part of nothing": ("POST", SPLITS, split(parts={"test": "0"}), 422, "parts.test",
        "none of the 3 items"),
    "no parts": ("POST", SPLITS, split(parts={}), 422, "parts", "at least 1"),
    "bad part name": ("POST", SPLITS, split(parts={"Test Set": "1"}), 422, "parts", "'Test Set'"),
    "rest is a part": ("POST", SPLITS, split(rest="test"), 422, "rest", "also the rest"),
    "negative seed": ("POST", SPLITS, split(seed=-1), 422, "seed", "got -1"),
    "enormous seed": ("POST", SPLITS, split(seed=2**64), 422, "seed", "less than"),
    "keep_truth of no part": ("POST", SPLITS, split(keep_truth=["val"]), 422, "keep_truth",
        "the parts are test, train"),
    "truth without header": ("POST", SPLITS, split(truth="a.png,cat\n"), 422, "truth",
        "no column 'name'"),
    "truth without labels": ("POST", SPLITS, split(truth="name\na.png\n"), 422, "truth",
        "name,label"),
    "truth of an unknown item": ("POST", SPLITS, split(truth=f"{TRUTH}z.png,cat\n"), 422, "truth",
        "row 5: no item is named 'z.png'"),
    "truth of an unknown class": ("POST", SPLITS, split(truth=TRUTH.replace("dog", "dgo")), 422,
        "truth",
        "row 3: the class 'dgo' is none of the expected ones: cat, dog; did you mean 'dog'?"),
    "truth twice": ("POST", SPLITS, split(truth=f"{TRUTH}a.png,dog\n"), 422, "truth",
        "row 5: row 2 names it already"),
    "truth that covers too little": ("POST", SPLITS,
        split(parts={"test": "3"}, truth="name,label\na.png,cat\n", keep_truth=["test"]), 422,
        "truth", "2 items without a true label"),
    "truth that nobody knows": ("POST", SPLITS, split(parts={"test": "3"}, keep_truth=["test"]),
        422, "keep_truth", "1 items whose label is missing or a machine's, first 'c.png'"),
    "split of no version": ("POST", f"{VERSIONS}/9/splits", split(), 404, "", "no version 9"),
    "label rows of an unknown item": ("POST", VERSIONS,
        labels({"item_id": "f" * 16, "label": "cat"}), 422, "row 2", "the parent has no item"),
    "label rows of an unknown class": ("POST", VERSIONS,
        labels({"item_id": "$a", "label": "cow"}), 422, "row 2",
        "'cow' is none of the expected ones: cat, dog"),
    "label rows twice": ("POST", VERSIONS,
        labels({"item_id": "$a", "label": "cat"}, {"item_id": "$a", "label": "dog"}), 422,
        "row 3", "row 2 labels this item already"),
    "label rows with an unknown source": ("POST", VERSIONS,
        labels({"item_id": "$a", "label": "cat", "source": "oracle"}), 422, "row 2",
        "source: Input should be 'human', 'grid'"),
    "label rows with an impossible score": ("POST", VERSIONS,
        labels({"item_id": "$a", "label": "cat", "score": 1.5}), 422, "row 2", "score"),
    "label rows with an unknown field": ("POST", VERSIONS,
        labels({"item_id": "$a", "label": "cat", "certain": True}), 422, "row 2", "certain"),
    "classes in another order": ("POST", VERSIONS, labels(classes=["dog", "cat"]), 422, "classes",
        "begin with those of version 1, in order: cat, dog"),
    "version from no parent": ("POST", VERSIONS, labels(parent=9), 404, "", "no version 9"),
    "version number taken": ("POST", VERSIONS, labels(version=1), 409, "version",
        "Version 1 exists already"),
    "version without a key": ("POST", VERSIONS, [{"parent": 1, "classes": CLASSES}], 422,
        "idempotency_key", "is missing"),
    "version of nothing": ("POST", VERSIONS, b"", 422, "", "The first line"),
    "version that is no JSON": ("POST", VERSIONS, b"parent=1\n", 422, "",
        "The first line (the version) is invalid"),
    "items by an unknown label": ("GET", f"{V1}/items?label=cow", None, 422, "label",
        "none of the 2 classes"),
    "items by part without a split": ("GET", f"{V1}/items?part=test", None, 422, "split",
        "needs a split; this version has: none"),
    "items of no split": ("GET", f"{V1}/items?part=test&split=holdout", None, 404, "",
        "no split 'holdout'"),
    "too many items": ("GET", f"{V1}/items?limit=501", None, 422, "limit", "501"),
    "a cursor from elsewhere": ("GET", f"{V1}/items?cursor=%21%21", None, 422, "cursor",
        "Start again without a cursor"),
    "no item": ("GET", f"{V1}/items/none", None, 404, "", "no item 'none'"),
    "image of no item": ("GET", f"{V1}/items/none/image", None, 404, "", "no item"),
    "why of no item": ("GET", f"{V1}/why/none", None, 404, "", "no item 'none'"),
    "enormous thumbnail": ("GET", f"{V1}/items/$a/thumbnail?size=9999", None, 422, "size",
        "9999"),
}
# fmt: on


@pytest.mark.parametrize("row", REQUESTS.values(), ids=REQUESTS.keys())
def test_requests_are_refused(stocked: Any, row: Row) -> None:
    method, path, body, status, field, words = row
    before = _state(stocked)
    answer = stocked.request(
        method, _named(stocked, path), content=_body(stocked, body), headers=JSON
    )
    problem = answer.json()
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"].rsplit("/")[-1] == TYPES[status]
    assert problem["field"] == field
    assert words in f"{problem['detail']} {problem['hint']} {problem['errors']}"
    assert _state(stocked) == before


def _named(world: Any, text: str) -> str:
    for name, value in world.names.items():
        text = text.replace(name, value)
    return text


def _body(world: Any, body: Any) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    lines = body if isinstance(body, list) else [body]
    return _named(world, "\n".join(json.dumps(line) for line in lines)).encode()


def _state(world: Any) -> tuple[Any, ...]:
    return (
        world.get("datasets").text,
        world.get("datasets/digits/versions").text,
        world.get(f"{V1}/splits").text,
        world.get(f"uploads/{world.names['$begun']}").text,
        [info.key for info in world.objects.list("")],
    )


def overlapping(make: Any) -> bytes:
    """A zip whose directory claims that 300 MB come out of some hundred bytes."""
    data = bytearray(make.zip({"a.png": make.png()}))
    place = data.index(b"PK\x01\x02")
    struct.pack_into("<L", data, place + 24, 300_000_000)
    return bytes(data)


def crowded(make: Any) -> bytes:
    """A zip whose end says that it lists two million files."""
    data = make.zip({"a.png": make.png()})
    place = data.index(b"PK\x05\x06")
    directory = struct.unpack_from("<L", data, place + 12)[0]
    start = struct.unpack_from("<L", data, place + 16)[0]
    end64 = struct.pack(
        "<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 2_000_000, 2_000_000, directory, start
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, place, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:place] + end64 + locator + end


def npy_header(make: Any, shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    """An npy whose header promises more than follows."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}"
    head = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + b"\0" * 100


GREY = np.zeros((2, 4, 4), dtype=np.uint8)
# fmt: off
SOURCES: dict[str, tuple[Source, dict[str, Any], str]] = {
    "a text": (lambda make: b"hello" * 100, {}, "not a readable zip archive"),
    "half a zip": (lambda make: make.zip({"a.png": make.png()})[:-40], {}, "send the whole file"),
    "an empty zip": (lambda make: make.zip({}), {}, "holds no files"),
    "nothing but junk": (lambda make: make.zip({"__MACOSX/a.png": b"x", ".DS_Store": b"x"}), {},
        "holds no files"),
    "no image at all": (lambda make: make.zip({"a.txt": b"text", "b.txt": b"text"}), {},
        "None of the 2 files could be imported; the first, 'a.txt'"),
    "a zip bomb by its directory": (overlapping, {}, "unpacks to 300,000,000"),
    "two million files": (crowded, {}, "at most 1,000,000 files"),
    "manifest without header": (lambda make: make.zip({"a.png": make.png()}),
        {"kind": "csv", "manifest": "a.png,cat\n"},
        "The first row of manifest has no column 'file'"),
    "manifest without labels": (lambda make: make.zip({"a.png": make.png()}),
        {"kind": "csv", "manifest": "file\na.png\n", "labels_from": "manifest"},
        "no column 'label'"),
    "manifest that is no CSV": (lambda make: make.zip({"a.png": make.png()}),
        {"kind": "csv", "manifest": 'file,label\n"a.png,cat\n'},
        "Row 2 of manifest cannot be read as CSV"),
    "no array": (lambda make: b"hello" * 100, {"kind": "numpy"},
        "neither a NumPy .npz nor a .npy"),
    "no images in it": (lambda make: make.npz(data=GREY), {"kind": "numpy"},
        "'images' is missing; the file holds data"),
    "wrong dtype": (lambda make: make.npz(images=GREY.astype(np.float32)), {"kind": "numpy"},
        "dtype float32; expected uint8"),
    "wrong shape": (lambda make: make.npz(images=GREY[0]), {"kind": "numpy"},
        "shape (4, 4); expected (N, H, W) or (N, H, W, 3)"),
    "four channels": (lambda make: make.npz(images=np.zeros((2, 4, 4, 4), np.uint8)),
        {"kind": "numpy"}, "expected (N, H, W) or (N, H, W, 3)"),
    "columns first": (
        lambda make: make.npz(images=np.asfortranarray(GREY + np.arange(4, dtype=np.uint8))),
        {"kind": "numpy"}, "Fortran order"),
    "labels of another length": (lambda make: make.npz(images=GREY, labels=np.arange(3)),
        {"kind": "numpy"}, "one entry per image: (2)"),
    "labels that are fractions": (lambda make: make.npz(images=GREY, labels=np.array([0.5, 1.5])),
        {"kind": "numpy"}, "expected integers or texts"),
    "pickled objects": (lambda make: make.npz(images=np.array([{"a": 1}, 2], dtype=object)),
        {"kind": "numpy"}, "holds Python objects, which are never loaded"),
    "an array that promises too much": (lambda make: npy_header(make, (1000, 28, 28)),
        {"kind": "numpy"}, "fewer than its shape says (784,000)"),
    "ten million images": (lambda make: npy_header(make, (10000000, 1, 1)), {"kind": "numpy"},
        "holds 10,000,000 images; at most 1,000,000"),
    "gigantic images": (lambda make: npy_header(make, (1, 10000, 10000)), {"kind": "numpy"},
        "10000 x 10000 pixels per image; at most 64,000,000"),
    "too many classes": (
        lambda make: make.npz(images=np.zeros((1001, 1, 1), np.uint8), labels=np.arange(1001)),
        {"kind": "numpy"}, "1001 classes; at most 1000"),
}
# fmt: on


@pytest.mark.parametrize("row", SOURCES.values(), ids=SOURCES.keys())
def test_sources_fail_as_a_whole(
    stocked: Any, make: Any, row: tuple[Source, dict[str, Any], str]
) -> None:
    data, fields, words = row
    versions = stocked.versions()
    stored = [info.key for info in stocked.objects.list("datasets/")]
    view = stocked.result(stocked.begin(data(make), **fields))
    assert (view.state, view.version) == ("failed", None)
    assert words in view.problem
    assert stocked.versions() == versions
    assert [info.key for info in stocked.objects.list("datasets/")] == stored


def test_a_changed_upload_begins_again(world: Any) -> None:
    made = world.post("uploads", {"size": 5, "sha256": hashlib.sha256(b"hello").hexdigest()})
    path = f"uploads/{made.json()['id']}"
    bad = world.request("PUT", path, params={"offset": 0}, content=b"hallo")
    assert (bad.status_code, bad.json()["field"]) == (422, "sha256")
    assert "again from offset 0" in bad.json()["hint"]
    assert world.get(path).json()["offset"] == 0
    assert not list(world.objects.list("uploads/"))
    good = world.request("PUT", path, params={"offset": 0}, content=b"hello")
    assert good.json()["complete"]


def test_a_split_is_immutable(world: Any, make: Any) -> None:
    world.dataset()
    world.imported(make.zip({"a.png": make.png(), "b.png": make.png(1)}))
    assert world.post(f"{V1}/splits", split()).status_code == 201
    again = world.post(f"{V1}/splits", split(seed=1))
    assert again.status_code == 409
    assert "splits are immutable" in again.json()["detail"]


def test_a_key_never_makes_another_version(world: Any, make: Any) -> None:
    world.dataset()
    world.imported(make.zip({"a.png": make.png()}), classes=CLASSES)
    item = world.items()[0].item_id
    rows = [{"item_id": item, "label": "cat", "source": "human"}]
    assert world.labels(rows, classes=CLASSES).status_code == 201
    other = world.labels([{**rows[0], "label": "dog"}], classes=CLASSES)
    assert (other.status_code, other.json()["field"]) == (409, "idempotency_key")
    assert [one["version"] for one in world.versions()] == [1, 2]
