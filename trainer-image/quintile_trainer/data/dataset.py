"""A dataset version as a rank sees it: images by row, labels, and which rows train or evaluate."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quintile.adapters import dataset_tables
from quintile_trainer import failures
from quintile_trainer.data import cache

Ints = npt.NDArray[np.int64]
MACHINE_SOURCES = frozenset({"auto", "auto-uncertified", "propagated", "duplicate"})
HELD_OUT_SHARE = 10
"""Without a split, one item in this many is held out for evaluation."""


@dataclass(frozen=True)
class Part:
    """Some rows of a manifest with their class ids, in order of item id.

    ``rows`` [M] int64 into the manifest, ``labels`` [M] int64. ``trusted``: every label came from a
    person or from the truth of a split, so that agreement with it may be called accuracy.
    """

    rows: Ints
    labels: Ints
    trusted: bool = True

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Dataset:
    """An open dataset version. Immutable; safe for several threads."""

    name: str
    version: int
    digest: str
    classes: tuple[str, ...]
    manifest: dataset_tables.Manifest
    train: Part
    evaluate: Part
    shards: Mapping[int, Path]


def open_dataset(
    access: dict[str, Any], reference: dict[str, Any], files: cache.Cache, *, seed: int
) -> Dataset:
    """Fetch tables and shards of a dataset version and choose its parts.

    Args:
        access: JSON of ``messages.DatasetAccess``.
        reference: camelCase JSON of ``spec.dataset``.
        files: Where fetched files are kept.
        seed: Which items are held out when there is no split.

    Raises:
        BadInput: No labelled items are left to train on.
        Broken: Something cannot be read.
    """
    manifest = dataset_tables.read_manifest(
        files.fetch(access["manifest_url"], access["manifest_sha256"]).read_bytes()
    )
    labels = dataset_tables.read_labels(
        files.fetch(access["labels_url"], access["labels_sha256"]).read_bytes()
    )
    split = None
    if access["split_url"]:
        split = dataset_tables.read_split(cache.read(access["split_url"]))
    train, evaluate = choose_parts(manifest, labels, split, reference, seed=seed)
    if not len(train):
        raise failures.BadInput(
            f"dataset {access['name']} version {access['version']} has no labelled items to train "
            f"on in part {reference.get('train', 'train')!r}; label some, or name another part"
        )
    return Dataset(
        name=access["name"],
        version=access["version"],
        digest=access["digest"],
        classes=tuple(access["classes"]),
        manifest=manifest,
        train=train,
        evaluate=evaluate,
        shards=_shards(access, manifest, np.concatenate([train.rows, evaluate.rows]), files),
    )


def _shards(
    access: dict[str, Any], manifest: dataset_tables.Manifest, rows: Ints, files: cache.Cache
) -> dict[int, Path]:
    """Return the local file of every shard that holds one of these rows."""
    known = {int(shard["index"]): shard for shard in access["shards"]}
    needed = [int(index) for index in np.unique(manifest.shards[rows])]
    missing = [index for index in needed if index not in known]
    if missing:
        raise failures.Broken(
            f"the manifest of dataset {access['name']} names shard {missing[0]}, the API does not"
        )
    return {index: files.fetch(known[index]["url"], known[index]["sha256"]) for index in needed}


def choose_parts(
    manifest: dataset_tables.Manifest,
    labels: dataset_tables.Labels,
    split: dataset_tables.Split | None,
    reference: dict[str, Any],
    *,
    seed: int,
) -> tuple[Part, Part]:
    """Return the rows to train on and the rows to evaluate on. Pure.

    Training uses labels only, narrowed by ``sources`` and ``minConfidence``. Evaluation prefers the
    truth of the split. Without a split every tenth item (by a keyed hash of its id) is held out.
    """
    classes = np.full(len(manifest), -1, dtype=np.int64)
    machine = np.zeros(len(manifest), dtype=bool)
    usable = np.zeros(len(manifest), dtype=bool)
    rows = manifest.rows_of(labels.item_ids)
    known = rows >= 0
    classes[rows[known]] = labels.class_ids[known]
    machine[rows[known]] = np.isin(labels.sources[known], list(MACHINE_SOURCES))
    usable[rows[known]] = _wanted(labels, reference)[known]
    if split is None:
        held_out = _held_out(manifest.item_ids, seed)
        truth = np.full(len(manifest), -1, dtype=np.int64)
        training = ~held_out
    else:
        parts, truth = _parts_of(manifest, split)
        training = parts == reference.get("train", "train")
        held_out = parts == reference.get("evaluate", "test")
    train_rows = np.flatnonzero(training & usable & (classes >= 0))
    answers = np.where(truth >= 0, truth, classes)
    evaluate_rows = np.flatnonzero(held_out & (answers >= 0))
    doubtful = machine[evaluate_rows] & (truth[evaluate_rows] < 0)
    return (
        Part(train_rows, classes[train_rows]),
        Part(evaluate_rows, answers[evaluate_rows], trusted=not bool(doubtful.any())),
    )


def _wanted(labels: dataset_tables.Labels, reference: dict[str, Any]) -> npt.NDArray[np.bool_]:
    wanted = np.ones(len(labels), dtype=bool)
    if reference.get("sources"):
        wanted &= np.isin(labels.sources, reference["sources"])
    if reference.get("minConfidence") is not None:
        wanted &= labels.scores >= float(reference["minConfidence"])
    return wanted


def _parts_of(
    manifest: dataset_tables.Manifest, split: dataset_tables.Split
) -> tuple[npt.NDArray[np.str_], Ints]:
    rows = manifest.rows_of(split.item_ids)
    known = rows >= 0
    parts = np.full(len(manifest), "", dtype=split.parts.dtype)
    truth = np.full(len(manifest), -1, dtype=np.int64)
    parts[rows[known]] = split.parts[known]
    truth[rows[known]] = split.truth[known]
    return parts, truth


def _held_out(item_ids: npt.NDArray[np.str_], seed: int) -> npt.NDArray[np.bool_]:
    marks = [
        hashlib.sha256(f"{seed}:{ident}".encode()).digest()[0] * HELD_OUT_SHARE < 256
        for ident in item_ids
    ]
    return np.asarray(marks, dtype=bool)
