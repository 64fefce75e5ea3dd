"""Whether a labeling job can succeed, and its size in whole items. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from quintile.core import cycle, datasets, errors, labeling_job
from quintile.engine import certify, stratum

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
SHOWN: Final = 12
"""Class names that a message lists at most."""


def check_labels(spec: labeling_job.LabelingJobSpec, classes: Sequence[str]) -> None:
    """Check that the job's labels are the dataset's classes, maybe with good new ones at the end.

    Class ids are places in these lists, and they never change.

    Raises:
        InvalidSpec: They are not.
    """
    known = list(classes)
    if spec.labels[: len(known)] == known:
        _check_names(spec.labels)
        return
    source = spec.dataset
    listed = ", ".join(known[:SHOWN]) + (", …" if len(known) > SHOWN else "")
    raise errors.InvalidSpec(
        f"spec.labels must begin with the {len(known)} classes of dataset {source.name!r} version "
        f"{source.version}, in their order: {listed}.",
        hint="Write those first and append new labels at the end.",
        field="spec.labels",
    )


def _check_names(labels: Sequence[str]) -> None:
    for place, name in enumerate(labels):
        if _CONTROL.search(name):
            raise errors.InvalidSpec(
                f"spec.labels[{place}] is {ascii(name)[:40]}; expected printable characters.",
                hint="Labels become the classes of the next dataset version.",
                field=f"spec.labels[{place}]",
            )


def size(spec: labeling_job.LabelingJobSpec, version: datasets.VersionView) -> cycle.Limits:
    """Return the budget of a new job in whole items.

    Without ``target.random``, R is large enough to certify with one wrong item in it; with less
    budget it is as small as a certificate can do with.

    Raises:
        InvalidSpec: No certificate can come of it; names the number that is needed.
    """
    n_items = version.items
    target = certify.Target.parse(target_of(spec))
    least = stratum.smallest(n_items, target=target, allow_wrong=0)
    decisions = labeling_job.count_of(spec.budget.max_human_labels, n_items)
    overlap = labeling_job.count_of(spec.review.overlap, n_items) / max(n_items, 1)
    if spec.target.random is not None:
        random = labeling_job.count_of(spec.target.random, n_items)
        if random < least:
            raise errors.InvalidSpec(
                f"spec.target.random {spec.target.random} is {random} items of {n_items}, but a "
                f"certificate of error {spec.target.error} at confidence "
                f"{spec.target.confidence} needs {least} or more.",
                hint=f"Raise spec.target.random to {least}, or raise spec.target.error.",
                field="spec.target.random",
            )
    else:
        random = stratum.smallest(n_items, target=target)
        if math.floor(decisions / (1 + overlap)) < random:
            random = least
    return cycle.limits(spec, items=n_items, random_items=random)


def resize(spec: labeling_job.LabelingJobSpec, before: cycle.Limits, *, items: int) -> cycle.Limits:
    """Return the budget of a job whose spec changed; R and batch stay as they are drawn."""
    decisions = labeling_job.count_of(spec.budget.max_human_labels, items)
    overlap = labeling_job.count_of(spec.review.overlap, items) / max(items, 1)
    chosen = min(math.floor(decisions / (1 + overlap)), items) - before.random
    if spec.budget.max_chosen is not None:
        chosen = min(chosen, labeling_job.count_of(spec.budget.max_chosen, items))
    return replace(before, decisions=decisions, chosen=max(0, chosen))


def target_of(spec: labeling_job.LabelingJobSpec) -> dict[str, str]:
    """Return the target as the engine and round manifests write it."""
    return {
        "error": spec.target.error,
        "confidence": spec.target.confidence,
        "guarantee": spec.target.guarantee,
        "mode": spec.target.mode,
        "looks": spec.target.looks,
    }
