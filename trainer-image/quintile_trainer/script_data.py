"""The experiment's dataset for scripts: every sample once an epoch, in an order that resumes.

Which sample comes when is a function of (seed, epoch, position), shared out over the ranks, so that
a run that goes on from a checkpoint goes on with the very next sample, also on another number of
ranks. ``quintile.data.reader`` makes one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from quintile_trainer import failures, folders, memory, threads, worker_env
from quintile_trainer.data import cache, dataset, images, order

LEAST_THREADS = 2


@dataclass(frozen=True)
class Wanted:
    """How to read.

    Attributes:
        batch_size: Samples per submitted worker and step.
        epochs: Passes over the training part.
        seed: Of the order.
        image_size: Side in pixels; 0 = as the images are.
    """

    batch_size: int
    epochs: int = 1
    seed: int = 0
    image_size: int = 0


@dataclass(frozen=True)
class Batch:
    """This rank's share of one global step; it may be empty in the last step of an epoch.

    ``step`` counts from 1: what it will be once the batch is learnt. ``images`` [B, H, W, C] uint8,
    ``labels`` [B] int64, ``item_ids`` of the dataset, ``global_size`` over all ranks.
    """

    step: int
    epoch: int
    images: images.Pixels
    labels: order.Ints
    item_ids: tuple[str, ...]
    global_size: int


class Reader:
    """Iterate over it once; ``step`` is that of the newest batch. One thread.

    Attributes:
        classes: Names by class id.
        shape: Height, width and channels of every image.
        steps: Global steps in all.
        step: The newest batch given out, or the one that the checkpoint was made after.
    """

    def __init__(self, env: worker_env.WorkerEnv, wanted: Wanted) -> None:
        if env.access is None:
            raise failures.BadInput(
                "quintile.data.reader() reads the dataset of the experiment, which names none; "
                "submit with --dataset NAME:VERSION/SPLIT"
            )
        _check(wanted)
        reference = env.program.get("dataset") or {}
        files = cache.Cache(env.cache_dir)
        self._opened = dataset.open_dataset(env.access, reference, files, seed=wanted.seed)
        self._env = env
        self.classes = self._opened.classes
        self.shape = self._shape(wanted)
        free = memory.budget_bytes(free_bytes=memory.free_bytes(), ranks_on_host=env.ranks_on_host)
        shared = max(LEAST_THREADS, threads.available() // env.ranks_on_host)
        self._means = images.Means(threads=shared, keep_bytes=free)
        self._source = images.ImageSource(self._opened, self._opened.train, self.shape, self._means)
        self._batch_size = wanted.batch_size
        self.schedule = order.Schedule(len(self._source), wanted.batch_size * env.workers)
        self._sampler = order.Sampler(
            self.schedule, wanted.seed, rank=env.rank, world_size=env.world_size
        )
        self.steps = wanted.epochs * self.schedule.steps_per_epoch
        self.step = self._restored()

    def __iter__(self) -> Iterator[Batch]:
        samples = self._take(self.step)
        while samples is not None:
            ahead = self._take(self.step + 1)
            pixels = self._source.batch(samples.items)
            if ahead is not None:
                self._source.expect(ahead.items)
            cursor, whole = self.schedule.cursor(self.step), self.schedule.positions(self.step)
            self.step += 1
            yield Batch(
                step=self.step,
                epoch=cursor.epoch,
                images=pixels,
                labels=self._source.labels(samples.items),
                item_ids=self._ids(self._opened.train, samples.items),
                global_size=len(whole),
            )
            samples = ahead

    def evaluation(self) -> Iterator[Batch]:
        """Yield this rank's share of the evaluation part, each item once over all ranks."""
        part = self._opened.evaluate
        source = images.ImageSource(self._opened, part, self.shape, self._means)
        ranks = {"rank": self._env.rank, "world_size": self._env.world_size}
        for block in order.blocks(len(part), self._batch_size, **ranks):
            items = np.arange(block.start, block.stop, dtype=np.int64)
            yield Batch(
                step=self.step,
                epoch=0,
                images=source.batch(items),
                labels=source.labels(items),
                item_ids=self._ids(part, items),
                global_size=len(items),
            )
        source.close()

    def close(self) -> None:
        """Close files and threads."""
        self._source.close()

    def place(self, step: int) -> order.Cursor:
        """Return epoch and position where the sample after ``step`` steps lies."""
        return self.schedule.cursor(step)

    def _restored(self) -> int:
        """Return the step to go on from."""
        folder = self._env.resume_dir
        manifest = folders.manifest_of(folder) if folder is not None else None
        if manifest is None:
            return 0
        step = int(manifest["step"])
        here = self.place(step)
        if (here.epoch, here.position) != (manifest["epoch"], manifest["cursor"]):
            raise failures.BadInput(
                f"the checkpoint of step {step} was made at sample {manifest['cursor']} of epoch "
                f"{manifest['epoch']}, and with this batch size that step begins at sample "
                f"{here.position} of epoch {here.epoch}; keep batch_size as it was"
            )
        return step

    def _take(self, step: int) -> order.Samples | None:
        return self._sampler.take(step) if step < self.steps else None

    def _ids(self, part: dataset.Part, items: order.Ints) -> tuple[str, ...]:
        return tuple(str(ident) for ident in self._opened.manifest.item_ids[part.rows[items]])

    def _shape(self, wanted: Wanted) -> images.Shape:
        height, width = images.natural_size(self._opened)
        side = wanted.image_size
        channels = images.natural_channels(self._opened)
        return images.Shape(side or height, side or width, channels)


def _check(wanted: Wanted) -> None:
    low = {"batch_size": 1, "epochs": 1, "image_size": 0}
    for name, least in low.items():
        value = getattr(wanted, name)
        if not isinstance(value, int) or value < least:
            raise failures.BadInput(
                f"quintile.data.reader({name}={value!r}); expected a whole number, {least} or more"
            )
