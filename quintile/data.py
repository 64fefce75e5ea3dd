"""The experiment's dataset, for scripts: every sample exactly once an epoch, and exact resume.

::

    import quintile
    from quintile import data

    reader = data.reader(batch_size=32, epochs=3)
    folder = quintile.restored()                  # files of the newest checkpoint; None at first
    for batch in reader:                          # goes on after that checkpoint
        ...                                       # batch.images, batch.labels: this rank's share
        if batch.step % 100 == 0:
            quintile.checkpoint("state", loss=0.3)  # files of a folder; rank 0 writes

Works in the ranks of a run. The trainer loads on first use, so importing this is cheap.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Batch(Protocol):
    """This rank's share of one global step; it may be empty in the last step of an epoch."""

    @property
    def step(self) -> int:
        """Return what the step count is once this batch is learnt, from 1."""
        ...

    @property
    def epoch(self) -> int:
        """Return the pass over the data, from 0."""
        ...

    @property
    def images(self) -> Any:
        """Return pixels, an array [B, H, W, C] of uint8."""
        ...

    @property
    def labels(self) -> Any:
        """Return class ids, an array [B] of int64."""
        ...

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Return which items of the dataset these are."""
        ...

    @property
    def global_size(self) -> int:
        """Return the samples of the step over all ranks."""
        ...


class Reader(Protocol):
    """Batches in order; iterate once."""

    @property
    def classes(self) -> Sequence[str]:
        """Return class names by id."""
        ...

    @property
    def steps(self) -> int:
        """Return the global steps of all epochs."""
        ...

    def __iter__(self) -> Iterator[Batch]: ...

    def evaluation(self) -> Iterator[Batch]:
        """Yield this rank's share of the evaluation part, each item once over all ranks."""
        ...


def reader(*, batch_size: int, epochs: int = 1, seed: int = 0, image_size: int = 0) -> Reader:
    """Return the training part of the experiment's dataset, for this rank.

    Args:
        batch_size: Samples per submitted worker and step, as in the built-in loop.
        epochs: Passes over the data.
        seed: Of the order.
        image_size: Side in pixels; 0 = as the images are.
    """
    wanted = importlib.import_module("quintile_trainer.script_data").Wanted(
        batch_size=batch_size, epochs=epochs, seed=seed, image_size=image_size
    )
    context = importlib.import_module("quintile_trainer.context")
    found: Reader = context.current().reader(wanted)
    return found
