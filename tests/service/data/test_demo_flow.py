"""The way of the demo: unlabelled digits, a test split with truth, labels of a job, training.

What the trial's access route gives is read with the trainer's own reader.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest
from sklearn import datasets as samples

from quintile_trainer import failures
from quintile_trainer.data import cache, dataset

CLASSES = [str(number) for number in range(10)]
HELD_OUT = 360
REFERENCE = {"name": "digits", "version": 2, "split": "holdout"}
Truth = dict[str, str]


@pytest.fixture(scope="module")
def digits(shared_world: Any, make: Any) -> tuple[Any, Truth]:
    """Version 1 without labels and its split; version 2 with labels, every tenth one wrong."""
    world = shared_world
    loaded = samples.load_digits()
    images = np.rint(loaded.images * (255 / 16)).astype(np.uint8)
    truth = {f"{row:05d}.png": str(label) for row, label in enumerate(loaded.target)}
    world.dataset()
    world.imported(make.npz(images=images), kind="numpy", classes=CLASSES)
    text = "name,label\n" + "".join(f"{name},{label}\n" for name, label in truth.items())
    body = {"name": "holdout", "parts": {"test": str(HELD_OUT)}, "truth": text}
    made = world.post("datasets/digits/versions/1/splits", {**body, "keep_truth": ["test"]})
    assert made.status_code == 201, made.text
    rows = [
        {"item_id": item.item_id, "label": _answer(truth[item.name], place), "source": "auto"}
        if place % 5
        else {"item_id": item.item_id, "label": truth[item.name], "source": "human"}
        for place, item in enumerate(world.items(1))
    ]
    labelled = world.labels(rows, classes=CLASSES, origin="labeling job digits", version=2)
    assert labelled.status_code == 201, labelled.text
    return world, truth


def _answer(label: str, place: int) -> str:
    return str((int(label) + 1) % 10) if place % 10 == 1 else label


def opened(world: Any, folder: pathlib.Path, **changes: Any) -> dataset.Dataset:
    """Open the dataset as a rank does, from what the access route signs."""
    reference = {**REFERENCE, **changes}
    query = {name: reference[name] for name in ("name", "version", "split") if reference[name]}
    answer = world.read_access(world.trial(reference), **query)
    assert answer.status_code == 200, answer.text
    access = _local(world, answer.json(), folder)
    return dataset.open_dataset(access, reference, cache.Cache(folder / "cache"), seed=0)


def _local(world: Any, value: Any, folder: pathlib.Path) -> Any:
    """Fetch every signed URL without credentials; the reader then reads the files."""
    if isinstance(value, dict):
        return {key: _local(world, inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_local(world, inner, folder) for inner in value]
    if not isinstance(value, str) or not value.startswith("http"):
        return value
    answer = world.get(value, headers={"Authorization": ""})
    assert answer.status_code == 200, answer.text
    path = folder / f"{abs(hash(value))}"
    path.write_bytes(answer.content)
    return path.as_uri()


def names_of(found: dataset.Dataset, part: dataset.Part) -> list[str]:
    return [item.name for item in found.manifest.items(part.rows)]


def test_training_sees_none_of_the_held_out_items(
    digits: tuple[Any, Truth], tmp_path: pathlib.Path
) -> None:
    world, truth = digits
    found = opened(world, tmp_path)
    assert found.classes == tuple(CLASSES)
    assert (len(found.train), len(found.evaluate)) == (1797 - HELD_OUT, HELD_OUT)
    assert not set(found.train.rows) & set(found.evaluate.rows)
    pairs = zip(names_of(found, found.evaluate), found.evaluate.labels, strict=True)
    assert all(truth[name] == str(label) for name, label in pairs)
    assert found.evaluate.trusted
    trained = zip(names_of(found, found.train), found.train.labels, strict=True)
    wrong = sum(truth[name] != str(label) for name, label in trained)
    assert 100 < wrong < 200, "the machine's labels are trained on as they are"


def test_the_held_out_part_is_stratified(digits: tuple[Any, Truth]) -> None:
    world, truth = digits
    page = world.get(
        "datasets/digits/versions/2/items",
        params={"split": "holdout", "part": "test", "limit": 500},
    ).json()
    assert len(page["items"]) == HELD_OUT
    held = [truth[item["name"]] for item in page["items"]]
    for label in CLASSES:
        share = list(truth.values()).count(label) * HELD_OUT / 1797
        assert abs(held.count(label) - share) < 1


def test_the_truth_of_other_parts_is_not_stored(
    digits: tuple[Any, Truth], tmp_path: pathlib.Path
) -> None:
    world, _ = digits
    key = world.get("datasets/digits/versions/2/splits").json()["items"][0]["key"]
    split = world.data.catalogue.split(key)
    assert set(split.truth[split.parts == "train"]) == {-1}
    assert set(split.truth[split.parts == "test"]) == set(range(10))


def test_training_labels_can_be_narrowed(digits: tuple[Any, Truth], tmp_path: pathlib.Path) -> None:
    world, truth = digits
    found = opened(world, tmp_path, sources=["human"])
    trained = zip(names_of(found, found.train), found.train.labels, strict=True)
    assert all(truth[name] == str(label) for name, label in trained)
    assert 200 < len(found.train) < 360
    assert len(found.evaluate) == HELD_OUT
    with pytest.raises(failures.BadInput, match="no labelled items"):
        opened(world, tmp_path, sources=["grid"])


def test_machine_labels_never_count_as_truth(
    digits: tuple[Any, Truth], tmp_path: pathlib.Path
) -> None:
    world, _ = digits
    assert not opened(world, tmp_path, split=None).evaluate.trusted
    answer = world.post(
        "datasets/digits/versions/2/splits",
        {"name": "machine", "parts": {"test": "20%"}, "keep_truth": ["test"]},
    )
    assert answer.status_code == 422
    assert "missing or a machine's" in answer.json()["detail"]
    plain = world.post(
        "datasets/digits/versions/2/splits", {"name": "plain", "parts": {"test": "20%"}}
    )
    assert plain.json()["parts"] == {"test": 359, "train": 1438}
    assert not opened(world, tmp_path, split="plain").evaluate.trusted


def test_training_on_a_version_without_labels_says_so(
    digits: tuple[Any, Truth], tmp_path: pathlib.Path
) -> None:
    world, _ = digits
    with pytest.raises(failures.BadInput, match="no labelled items to train on"):
        opened(world, tmp_path, version=1)


def test_a_trial_reads_only_what_its_spec_names(digits: tuple[Any, Truth]) -> None:
    world, _ = digits
    trial = world.trial(REFERENCE)
    for query in ({"name": "digits", "version": 1}, {"name": "faces", "version": 2}):
        refused = world.read_access(trial, **query)
        assert refused.status_code == 403
        assert "its spec names" in refused.json()["hint"]
    none = world.read_access(trial, name="digits", version=2, split="nothing")
    assert none.status_code == 404
    assert "it has: holdout" in none.json()["detail"]


def test_the_export_is_a_child_with_its_provenance(digits: tuple[Any, Truth]) -> None:
    world, _ = digits
    first, second = world.version(1), world.version(2)
    assert (second.parent, second.origin) == (1, "labeling job digits")
    assert second.label_sources == {"auto": 1437, "human": 360}
    assert second.manifest_key == first.manifest_key
    assert second.digest != first.digest
    item = world.items(2)[0]
    why = world.get(f"datasets/digits/versions/2/why/{item.item_id}").json()
    assert [(step["version"], step["label"] is None) for step in why["steps"]] == [
        (2, False),
        (1, True),
    ]
    assert why["steps"][0]["label"]["source"] == "human"


def test_exporting_again_gives_the_same_version(digits: tuple[Any, Truth]) -> None:
    world, truth = digits
    rows = [
        json.loads(line)
        for line in world.get("datasets/digits/versions/2/items.ndjson").text.splitlines()
    ]
    labels = [
        {"item_id": row["item_id"], "label": row["label"], "source": row["source"]}
        for row in reversed(rows)
    ]
    again = world.labels(labels, classes=CLASSES, origin="labeling job digits", version=2)
    assert (again.status_code, again.json()["version"]) == (200, 2)
    assert [one["version"] for one in world.versions()] == [1, 2]
