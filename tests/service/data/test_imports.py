"""Imports end to end: every kind of source, resumable uploads, restarts, races, progress."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quintile.core import errors, names
from quintile.testing import objects as fake_objects
from quintile_api.data import imports, jobs

DIGITS = [str(number) for number in range(10)]
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 7), dtype=np.uint8)


def test_a_zip_becomes_a_version(world: Any, make: Any) -> None:
    world.dataset()
    files = {f"{place:02d}.png": make.png(place) for place in range(7)}
    view = world.imported(make.zip(files))
    assert (view.version, view.imported, view.done, view.total) == (1, 7, 7, 7)
    version = world.version()
    assert (version.version, version.parent, version.items, version.labelled) == (1, None, 7, 0)
    assert version.bytes == sum(map(len, files.values()))
    assert version.origin == f"import {view.id}"
    items = {item.name: item for item in world.items()}
    assert sorted(items) == sorted(files)
    for name, data in files.items():
        item = items[name]
        assert (item.width, item.height, item.format, item.label) == (8, 8, "PNG", None)
        assert (item.size, item.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        answer = world.get(f"datasets/digits/versions/1/items/{item.item_id}/image")
        assert answer.content == data


def test_folders_are_classes_in_natural_order(world: Any, make: Any) -> None:
    world.dataset()
    names_of = ["data/10/a.png", "data/2/b.png", "data/2/deep/c.png", "data/1/d.png"]
    files = {name: make.png(place) for place, name in enumerate(names_of)}
    world.imported(make.zip(files), labels_from="folders")
    version = world.version()
    assert [(one.id, one.name) for one in version.classes] == [(0, "1"), (1, "2"), (2, "10")]
    assert version.label_sources == {"imported": 4}
    found = {item.name: (item.label, item.source) for item in world.items()}
    assert found["data/2/deep/c.png"] == ("2", "imported")


def test_a_manifest_labels_some_items(world: Any, make: Any) -> None:
    world.dataset()
    files = {f"img/{name}.png": make.png(place) for place, name in enumerate("abc")}
    manifest = "\ufefflabel;file\ncat;img/a.png\n;img/b.png\n\ndog;./img/c.png\n"
    world.imported(make.zip(files, deflate=True), kind="csv", manifest=manifest)
    labels = {item.name: item.label for item in world.items()}
    assert labels == {"img/a.png": "cat", "img/b.png": None, "img/c.png": "dog"}


@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "colour"])
def test_arrays_become_lossless_images(world: Any, make: Any, channels: tuple[int, ...]) -> None:
    world.dataset()
    shape = (6, 5, 7, *channels)
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    labels = np.array([3, 1, 4, 1, 5, 9])
    world.imported(make.npz(images=pixels, labels=labels), kind="numpy", classes=DIGITS)
    items = {item.name: item for item in world.items()}
    assert [items[f"{place:05d}.png"].label for place in range(6)] == list("314159")
    opened = world.pixels(items.values())
    for place in range(6):
        assert np.array_equal(opened[f"{place:05d}.png"], pixels[place])


def test_a_bare_array_and_names_and_labels_left_out(world: Any, make: Any) -> None:
    world.dataset()
    world.imported(make.npy(PIXELS), kind="numpy")
    assert {item.name for item in world.items(1)} == {f"{place:05d}.png" for place in range(6)}
    source = make.npz(images=PIXELS, names=np.array(list("fedcba")), labels=np.arange(6))
    world.imported(source, kind="numpy", labels_from="none", classes=DIGITS)
    version = world.version(2)
    assert (version.labelled, len(version.classes)) == (0, 10)
    opened = world.pixels(world.items(2), 2)
    assert np.array_equal(opened["f"], PIXELS[0])


def test_every_allowed_format_is_taken_whatever_its_name(world: Any, make: Any) -> None:
    world.dataset()
    image = Image.fromarray(PIXELS[0])
    kinds = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
    files = {f"{kind}.dat": make.encode(image, kind) for kind in kinds}
    turned = Image.Exif()
    turned[0x0112] = 6
    files["turned.png"] = make.encode(image, "JPEG", exif=turned)
    world.imported(make.zip(files))
    items = {item.name: item for item in world.items()}
    assert {items[f"{kind}.dat"].format for kind in kinds} == set(kinds)
    upright = items["turned.png"]
    assert (upright.format, upright.width, upright.height) == ("JPEG", 5, 7)


def test_3_bad_files_of_1000_leave_997(world: Any, make: Any) -> None:
    world.dataset()
    files = {f"{place:04d}.png": make.png(place) for place in range(1000)}
    files["0100.png"] = files["0100.png"][:-30]
    files["0500.png"] = b"this is a text"
    files["0900.png"] = b""
    view = world.imported(make.zip(files))
    assert (view.total, view.imported, view.rejected_total) == (1000, 997, 3)
    found = {bad.name: (bad.reason, bad.message) for bad in view.rejected}
    assert found["0100.png"][0] in ("Truncated", "Broken")
    assert found["0500.png"][0] == "NotAnImage"
    assert "expected JPEG, PNG" in found["0500.png"][1]
    assert found["0900.png"][0] == "Empty"
    assert len(world.items()) == world.version().items == 997


def test_an_upload_goes_on_where_it_stopped(world: Any, make: Any) -> None:
    world.dataset()
    files = {f"{place}.png": make.png(place, size=(300, 300)) for place in range(4)}
    data = make.zip(files)
    piece = 100_000
    made = world.post("uploads", {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    path = f"uploads/{made.json()['id']}"
    world.request("PUT", path, params={"offset": 0}, content=data[:piece])
    late = world.request("PUT", path, params={"offset": 0}, content=data[:piece])
    assert late.status_code == 409
    assert f"expects byte {piece} next" in late.json()["detail"]
    world.restart()
    state = world.get(path).json()
    assert (state["offset"], state["complete"]) == (piece, False)
    last = world.request("PUT", path, params={"offset": piece}, content=data[piece:])
    assert last.json()["complete"]
    again = world.request("PUT", path, params={"offset": len(data)}, content=b"")
    assert again.json()["complete"]
    begun = world.post("datasets/digits/imports", {"upload_id": made.json()["id"], "kind": "zip"})
    assert world.result(begun).imported == 4
    assert world.get(path).status_code == 404
    assert not list(world.objects.list("uploads/"))


def test_two_senders_of_one_piece_store_it_once(world: Any) -> None:
    made = world.post("uploads", {"size": 200_000}).json()
    for status in (200, 409):
        answer = world.request(
            "PUT", f"uploads/{made['id']}", params={"offset": 0}, content=bytes(100_000)
        )
        assert answer.status_code == status
    assert len(list(world.objects.list("uploads/"))) == 1


def test_uploads_are_forgotten_after_a_day_of_silence(world: Any) -> None:
    old = world.post("uploads", {"size": 100_000}).json()
    world.request("PUT", f"uploads/{old['id']}", params={"offset": 0}, content=bytes(100_000))
    world.clock.sleep(20 * 3600)
    young = world.post("uploads", {"size": 1}).json()
    world.clock.sleep(5 * 3600)
    assert world.data.uploads.forget_stale() == 1
    assert world.get(f"uploads/{old['id']}").status_code == 404
    assert world.get(f"uploads/{young['id']}").status_code == 200
    assert not list(world.objects.list("uploads/"))


def test_an_import_that_the_server_left_begins_again(world: Any, make: Any) -> None:
    world.dataset()
    files = {f"{place}.png": make.png(place) for place in range(5)}
    begun = world.begin(make.zip(files))
    queue = jobs.JobQueue(world.ctx.database, world.clock)
    assert queue.claim() is not None
    version_prefix = names.version_prefix(world.dataset_uid(), 1)
    world.objects.put(names.shard_key(version_prefix, 0), b"half of a shard")
    world.restart()
    assert queue.claim() is None, "the dead server's lease still holds"
    world.clock.sleep(jobs.LEASE_S + 1)
    view = world.result(begun)
    assert (view.state, view.version, view.imported) == ("succeeded", 1, 5)


def test_a_server_that_stops_gives_the_job_back(world: Any, make: Any) -> None:
    world.dataset()
    begun = world.begin(make.zip({"a.png": make.png()}))
    importer = world.data.importer
    importer.stopping.set()
    assert world.data.worker.run_next()
    body = begun.json()
    path = f"datasets/digits/imports/{body['id']}"
    assert world.get(path).json()["state"] == "queued"
    assert world.get("datasets/digits/versions/0").status_code == 404
    importer.stopping.clear()
    assert world.result(begun).version == 1


def test_a_worker_that_lost_its_lease_makes_nothing_visible(world: Any, make: Any) -> None:
    world.dataset()
    begun = world.begin(make.zip({"a.png": make.png()}))
    slow = jobs.JobQueue(world.ctx.database, world.clock).claim()
    assert slow is not None
    world.clock.sleep(jobs.LEASE_S + 1)
    assert world.result(begun).version == 1
    with pytest.raises(errors.Fenced):
        world.data.importer.run(slow)
    assert [one["version"] for one in world.versions()] == [1]
    assert len(world.items()) == 1


def test_a_job_that_never_ends_fails_after_some_tries(world: Any, make: Any) -> None:
    world.dataset()
    begun = world.begin(make.zip({"a.png": make.png()}))
    queue = jobs.JobQueue(world.ctx.database, world.clock)
    for _ in range(jobs.TRIES):
        assert queue.claim() is not None
        world.clock.sleep(jobs.LEASE_S + 1)
    view = world.result(begun)
    assert view.state == "failed"
    assert "begun 10 times" in view.problem


def test_deleting_a_dataset_ends_its_import_and_frees_its_bytes(world: Any, make: Any) -> None:
    world.dataset()
    world.imported(make.zip({"a.png": make.png()}))
    begun = world.begin(make.zip({"b.png": make.png(1)}))
    claim = jobs.JobQueue(world.ctx.database, world.clock).claim()
    assert claim is not None
    assert world.request("DELETE", "datasets/digits").status_code == 204
    with pytest.raises((errors.Fenced, errors.NotFound)):
        world.data.importer.run(claim)
    world.work()
    assert not list(world.objects.list("datasets/"))
    assert world.get(f"datasets/digits/imports/{begun.json()['id']}").status_code == 404
    assert world.get("datasets").json()["items"] == []


def test_a_full_disk_fails_the_import_and_keeps_nothing(world: Any, make: Any) -> None:
    store = fake_objects.FakeObjectStore()
    world.restart(objects=store)
    world.dataset()
    files = {f"{place}.png": make.png(place, size=(200, 200)) for place in range(10)}
    data = make.zip(files)
    begun = world.begin(data)
    store.room_bytes = len(data) + 100_000
    view = world.result(begun)
    assert (view.state, view.version) == ("failed", None)
    assert "No room left" in view.problem
    assert not list(store.list("datasets/"))
    store.room_bytes = None
    again = world.post(
        "datasets/digits/imports",
        {"upload_id": list(store.list("uploads/"))[0].key.split("/")[1], "kind": "zip"},
    )
    assert world.result(again).version == 1


def test_a_full_disk_refuses_a_piece_and_the_upload_goes_on_later(world: Any) -> None:
    store = fake_objects.FakeObjectStore(room_bytes=100)
    world.restart(objects=store)
    made = world.post("uploads", {"size": 1000}).json()
    path = f"uploads/{made['id']}"
    full = world.request("PUT", path, params={"offset": 0}, content=bytes(1000))
    assert (full.status_code, full.json()["type"].rsplit("/")[-1]) == (507, "store-full")
    assert world.get(path).json()["offset"] == 0
    store.room_bytes = None
    done = world.request("PUT", path, params={"offset": 0}, content=bytes(1000))
    assert done.json()["complete"]


def test_the_same_request_imports_once(world: Any, make: Any) -> None:
    world.dataset()
    body = {"upload_id": world.upload(make.zip({"a.png": make.png()})), "kind": "zip"}
    key = {"Idempotency-Key": "one"}
    first = world.request("POST", "datasets/digits/imports", json=body, headers=key)
    second = world.request("POST", "datasets/digits/imports", json=body, headers=key)
    assert first.json()["id"] == second.json()["id"]
    world.result(first)
    assert [one["version"] for one in world.versions()] == [1]


def test_equal_sources_make_equal_versions(world: Any, make: Any) -> None:
    world.dataset()
    data = make.zip({f"{place}.png": make.png(place) for place in range(20)})
    world.imported(data)
    world.imported(data)
    first, second = world.version(1), world.version(2)
    assert (first.digest, first.manifest_sha256) == (second.digest, second.manifest_sha256)


def test_the_worker_runs_by_itself(world: Any, make: Any) -> None:
    world.dataset()
    world.app.state.background.start()
    begun = world.begin(make.zip({"a.png": make.png()})).json()
    end = time.monotonic() + 30
    state = "queued"
    while state not in ("succeeded", "failed") and time.monotonic() < end:
        state = world.get(f"datasets/digits/imports/{begun['id']}").json()["state"]
    assert state == "succeeded"


class WatchedStore(fake_objects.FakeObjectStore):
    """Whenever a piece of the source is read, a second goes by and somebody looks."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self._look = look

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._look()
        return super().get(key, start=start, length=length)


def test_progress_shows_while_it_runs(world: Any, make: Any) -> None:
    seen: list[dict[str, Any]] = []
    path = ""

    def look() -> None:
        if path:
            world.clock.sleep(1.0)
            seen.append(world.get(path).json())

    world.restart(objects=WatchedStore(look))
    world.dataset()
    count = 5 * imports.WINDOW_FILES
    files = {f"{place:03d}.png": make.png(place, size=(100, 100)) for place in range(count)}
    begun = world.begin(make.zip(files))
    path = f"datasets/digits/imports/{begun.json()['id']}"
    assert world.result(begun).imported == count
    assert {view["state"] for view in seen} == {"running"}
    assert any(0 < view["done"] < count for view in seen)
    done = [view["done"] for view in seen]
    assert done == sorted(done)
