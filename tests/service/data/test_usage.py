"""A dataset that something works with stays; an experiment names data that are there."""

from __future__ import annotations

from typing import Any

import pytest

from quintile.core import meta

LABELS = {"labels": ["cat", "dog"]}


def user(world: Any, kind: str, phase: str, *, dataset: str = "digits") -> None:
    """Put a labeling job or an experiment of this phase into the store."""
    spec = {"estimator": {"builtin": {}}} if kind == "Experiment" else LABELS
    document = {
        "apiVersion": meta.API_VERSION,
        "kind": kind,
        "metadata": {"name": "first", "namespace": "default"},
        "spec": {**spec, "dataset": {"name": dataset, "version": 1}},
    }
    made = world.resources.apply(document, manager="test")
    if phase:
        key = meta.Key(kind, "default", "first")
        world.resources.patch_status(key, {"phase": phase}, uid=made["metadata"]["uid"])


@pytest.mark.parametrize(
    ("kind", "phase"),
    [
        ("LabelingJob", ""),
        ("LabelingJob", "Covering"),
        ("LabelingJob", "Suspended"),
        ("Experiment", ""),
        ("Experiment", "Running"),
        ("Experiment", "Suspended"),
    ],
)
def test_a_dataset_in_use_is_not_deleted(world: Any, make: Any, kind: str, phase: str) -> None:
    world.dataset()
    world.imported(make.zip({"a.png": make.png(1)}))
    user(world, kind, phase)
    answer = world.request("DELETE", "datasets/digits")
    assert answer.status_code == 409, answer.text
    assert answer.json()["detail"] == f"Dataset 'digits' is in use by {kind} first."
    assert answer.json()["hint"] == "Wait until they have ended, or delete them first."
    assert world.version(1).items == 1


@pytest.mark.parametrize("kind", ["LabelingJob", "Experiment"])
def test_what_has_ended_or_uses_another_holds_nothing(world: Any, kind: str) -> None:
    world.dataset()
    user(world, kind, "Failed")
    assert world.request("DELETE", "datasets/digits").status_code == 204
    world.dataset()
    world.resources.delete(meta.Key(kind, "default", "first"))
    user(world, kind, "", dataset="others")
    assert world.request("DELETE", "datasets/digits").status_code == 204


def test_an_experiment_on_data_that_are_not_there_is_refused(world: Any, make: Any) -> None:
    world.dataset()
    world.imported(make.zip({"a.png": make.png(1), "b.png": make.png(2)}))
    made = world.post("datasets/digits/versions/1/splits", {"name": "half", "parts": {"test": "1"}})
    assert made.status_code == 201, made.text
    refusals = {
        "There is no dataset 'faces' in project 'default'.": {"name": "faces", "version": 1},
        "Dataset 'digits' has no version 7; its newest is 1.": {"name": "digits", "version": 7},
        "Version 1 has no split 'third'; it has: half.": {
            "name": "digits",
            "version": 1,
            "split": "third",
        },
    }
    for message, dataset in refusals.items():
        spec = {"estimator": {"builtin": {}}, "dataset": dataset}
        answer = world.post("experiments", {"name": "first", "spec": spec})
        assert (answer.status_code, answer.json()["detail"]) == (404, message)
    assert world.resources.list("Experiment").items == ()
    spec = {
        "estimator": {"builtin": {}},
        "dataset": {"name": "digits", "version": 1, "split": "half"},
    }
    assert world.post("experiments", {"name": "first", "spec": spec}).status_code == 201
