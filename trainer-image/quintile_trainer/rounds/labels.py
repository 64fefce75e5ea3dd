"""Item ids of a manifest as rows of the pool, and who may be learned from. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quintile.core import errors, tasks
from quintile.engine import draws
from quintile.engine.certify import bounds

Ids = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Roles:
    """What each row of the pool is in this round. N items, sorted by item id.

    Attributes:
        settled: Rows that people decided, ascending [S]: with a class, or without one.
        classes: Class id of each, -1 without one [S].
        random: Settled prefix of R, in committed order [n].
        random_classes: Class id of each, -1 without one [n].
        withheld: Rows that may never be chosen (all of R), ascending.
        sealed: Rows of R that must not train (``strict``), ascending.
    """

    settled: draws.IntArray
    classes: draws.IntArray
    random: draws.IntArray
    random_classes: draws.IntArray
    withheld: draws.IntArray
    sealed: draws.IntArray

    def training(self) -> tuple[draws.IntArray, draws.IntArray]:
        """Return rows [L] ascending and classes [L] to learn from."""
        usable = (self.classes >= 0) & ~np.isin(self.settled, self.sealed)
        return self.settled[usable], self.classes[usable]

    def covered(self) -> draws.IntArray:
        """Return rows that people decided or will decide anyway, ascending."""
        return np.union1d(self.settled, self.withheld)

    def open(self, n_items: int) -> draws.IntArray:
        """Return rows that may be chosen, ascending."""
        return np.setdiff1d(np.arange(n_items), self.covered())


def roles(manifest: tasks.RoundManifest, item_ids: Ids) -> Roles:
    """Return the rows that a manifest names.

    Raises:
        InvalidSpec: It names an item that the pool has not, or a class that does not exist.
    """
    settled = _rows(item_ids, [item_id for item_id, _, _ in manifest.labels])
    classes = np.array([label for _, _, label in manifest.labels], dtype=np.int64)
    random = _rows(item_ids, [item_id for item_id, _ in manifest.random])
    random_classes = np.array([label for _, label in manifest.random], dtype=np.int64)
    for found in (classes, random_classes):
        if ((found < -1) | (found >= len(manifest.classes))).any():
            raise errors.InvalidSpec(
                f"Round {manifest.number} holds class ids outside of -1 to "
                f"{len(manifest.classes) - 1}.",
                hint="The manifest and the labels of the job must be of one schema version.",
            )
    withheld = np.sort(_rows(item_ids, manifest.exclude))
    order = np.argsort(settled, kind="stable")
    return Roles(
        settled=settled[order],
        classes=classes[order],
        random=random,
        random_classes=random_classes,
        withheld=withheld,
        sealed=_sealed(manifest, random, withheld),
    )


def teaching_count(manifest: tasks.RoundManifest) -> int:
    """Return how many leading items of R may train; all of them unless a part is sealed."""
    planned = max(manifest.random_size, len(manifest.random))
    return planned - bounds.sealed_count(planned, manifest.target.get("mode", "crossfit"))


def _sealed(
    manifest: tasks.RoundManifest, random: draws.IntArray, withheld: draws.IntArray
) -> draws.IntArray:
    if manifest.target.get("mode", "crossfit") == "crossfit":
        return draws.no_items()
    teaching = random[: teaching_count(manifest)]
    # R items answered ahead of the settled prefix have no known place yet: they stay sealed too.
    return np.setdiff1d(np.union1d(withheld, random), teaching)


def _rows(item_ids: Ids, wanted: Sequence[str]) -> draws.IntArray:
    if not wanted:
        return draws.no_items()
    asked = np.asarray(wanted)
    places = np.minimum(np.searchsorted(item_ids, asked), len(item_ids) - 1)
    absent = item_ids[places] != asked
    if absent.any():
        raise errors.InvalidSpec(
            f"The pool has no item '{asked[absent][0]}' ({int(absent.sum())} such items).",
            hint="The manifest must belong to the dataset version of the job.",
        )
    return places.astype(np.int64)
