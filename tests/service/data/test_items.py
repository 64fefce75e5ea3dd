"""Items: pages and filters, images and thumbnails, labels and provenance as files."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quintile.testing import objects as fake_objects

V1 = "datasets/digits/versions/1"
COUNT = 25


@pytest.fixture(scope="module")
def stocked(shared_world: Any, make: Any) -> Any:
    """25 images; the first 20 labelled 0 to 3 in turn."""
    world = shared_world
    world.dataset()
    files = {f"{place:02d}.png": make.png(place) for place in range(COUNT)}
    rows = "".join(f"{place:02d}.png,{place % 4 if place < 20 else ''}\n" for place in range(COUNT))
    world.imported(make.zip(files), kind="csv", manifest=f"file,label\n{rows}")
    split = {"name": "s", "parts": {"test": "10"}}
    assert world.post(f"{V1}/splits", split).status_code == 201
    return world


def pages(world: Any, **query: Any) -> list[dict[str, Any]]:
    """Walk all pages of three."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = world.get(f"{V1}/items", params={"limit": 3, "cursor": cursor, **query}).json()
        assert len(page["items"]) <= 3
        found.extend(page["items"])
        if page["next_cursor"] is None:
            return found
        cursor = page["next_cursor"]


def test_pages_hold_every_item_once_in_order(stocked: Any) -> None:
    found = [item["item_id"] for item in pages(stocked)]
    assert len(found) == COUNT
    assert found == sorted(found)
    assert found == [item.item_id for item in stocked.items()]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"label": "2"}, 5),
        ({"source": "imported"}, 20),
        ({"source": "none"}, 5),
        ({"source": "human"}, 0),
        ({"part": "test"}, 10),
        ({"part": "train", "split": "s"}, 15),
        ({"source": "none", "label": "1"}, 0),
    ],
    ids=str,
)
def test_filters(stocked: Any, query: dict[str, str], count: int) -> None:
    found = pages(stocked, **query)
    assert len(found) == count
    for item in found:
        assert "label" not in query or item["label"] == query["label"]


def test_one_item_is_that_of_the_list(stocked: Any) -> None:
    for item in stocked.items()[:3]:
        answer = stocked.get(f"{V1}/items/{item.item_id}")
        assert answer.json() == item.model_dump()


def test_labels_as_csv(stocked: Any) -> None:
    answer = stocked.get(f"{V1}/labels.csv")
    assert answer.headers["content-disposition"] == "attachment; filename=labels.csv"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == COUNT
    by_name = {row["name"]: row for row in rows}
    assert (by_name["03.png"]["label"], by_name["03.png"]["source"]) == ("3", "imported")
    assert by_name["03.png"]["time"].startswith("2027-")
    assert set(by_name["24.png"].values()) == {"24.png", by_name["24.png"]["item_id"], ""}


def test_image_bytes_whole_and_in_ranges(stocked: Any, make: Any) -> None:
    item = next(item for item in stocked.items() if item.name == "07.png")
    path = f"{V1}/items/{item.item_id}/image"
    data = make.png(7)
    whole = stocked.get(path)
    assert (whole.status_code, whole.content) == (200, data)
    assert whole.headers["content-type"] == "image/png"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert whole.headers["cache-control"] == "private, max-age=31536000, immutable"
    size = len(data)
    for header, start, end in (
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, size),
        ("bytes=-5", size - 5, size),
        ("bytes=4-9999", 4, size),
    ):
        part = stocked.get(path, headers={"Range": header})
        assert (part.status_code, part.content) == (206, data[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    beyond = stocked.get(path, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    known = stocked.get(path, headers={"If-None-Match": whole.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")


def test_thumbnails_are_small_upright_and_bare(world: Any, make: Any) -> None:
    world.dataset()
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "taken at home"
    wide = make.encode(Image.new("RGB", (600, 300), "red"), "JPEG", exif=exif)
    deep = make.encode(Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 200))
    clear = make.encode(Image.new("RGBA", (40, 40), (0, 0, 0, 0)))
    world.imported(make.zip({"wide.jpg": wide, "deep.png": deep, "clear.png": clear}))
    found = {}
    for item in world.items():
        answer = world.get(f"{V1}/items/{item.item_id}/thumbnail", params={"size": 100})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert b"taken at home" not in answer.content
        again = world.get(f"{V1}/items/{item.item_id}/thumbnail", params={"size": 128})
        assert again.content == answer.content
        found[item.name] = Image.open(io.BytesIO(answer.content))
    assert found["wide.jpg"].size == (64, 128)
    assert not found["wide.jpg"].getexif()
    assert found["clear.png"].mode == "RGBA"
    extrema = found["deep.png"].convert("L").getextrema()
    assert extrema == (0, 255), "16 bits are stretched to 8"


def test_a_full_disk_still_shows_thumbnails(world: Any, make: Any) -> None:
    store = fake_objects.FakeObjectStore()
    world.restart(objects=store)
    world.dataset()
    world.imported(make.zip({"a.png": make.png()}))
    store.room_bytes = 0
    item = world.items()[0].item_id
    assert world.get(f"{V1}/items/{item}/thumbnail").status_code == 200


def test_ids_of_another_length_are_not_found(stocked: Any) -> None:
    item = stocked.items()[0].item_id
    for wrong in (item[:-1], item + "0", item.upper() + "x"):
        assert stocked.get(f"{V1}/items/{wrong}").status_code == 404


def test_lists_of_datasets_and_versions_have_pages(world: Any, make: Any) -> None:
    for name in ("c", "a", "b"):
        world.dataset(name)
    first = world.get("datasets", params={"limit": 2}).json()
    assert [one["name"] for one in first["items"]] == ["a", "b"]
    rest = world.get("datasets", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert ([one["name"] for one in rest["items"]], rest["next_cursor"]) == (["c"], None)
    data = make.zip({"a.png": make.png()})
    for _ in range(3):
        world.imported(data, name="a")
    page = world.get("datasets/a/versions", params={"limit": 2}).json()
    assert [one["version"] for one in page["items"]] == [1, 2]
    rest = world.get("datasets/a/versions", params={"cursor": page["next_cursor"]}).json()
    assert [one["version"] for one in rest["items"]] == [3]
    assert world.get("datasets/a").json()["newest_version"] == 3
