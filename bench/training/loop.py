"""What our loop adds: one ``log`` call, a step of a null model, real steps beside plain torch.

    python bench/training/loop.py [--quick] [--out FILE]

Pairs are interleaved in one process; ratios are medians with the least and the largest of the runs.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pairs
import torch
from torch import nn

from quintile.testing import digits, ranks
from quintile_trainer import (
    checkpoints,
    hyper,
    loop,
    optimizing,
    reporter,
    stopping,
    task,
    worker_env,
)
from quintile_trainer.data import augment, decode, feeds, order
from quintile_trainer.models import resnet
from quintile_trainer.modes import single

BATCH = 64
LOGS, STEPS = 5_000, 300


def main() -> None:
    """Measure, print, and store the rows as JSON with ``--out``."""
    parser = argparse.ArgumentParser(prog="bench/training/loop.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pairs")
    parser.add_argument("--out", type=pathlib.Path, help="where to write the rows as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(runs=5 if asked.quick else 11)
    pairs.tell(rows, asked.out)


def measure(*, runs: int) -> list[pairs.Row]:
    """Return the rows; what our loop adds is beside the allowance of the bar."""
    stop = stopping.StopSignal()
    images, labels = pixels()
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        logs = [log_cost_us(place / f"log-{run}") for run in range(runs)]
        null = [(ours_null(place / f"null-{run}", stop), plain_null()) for run in range(runs)]
        real = []
        for run in range(runs):
            ours = timed(lambda run=run: train(place / f"run-{run}", images, labels, STEPS, stop))
            real.append((ours, timed(lambda: hand_written(images, labels, STEPS))))
    added = [a - b for a, b in null]
    rates = [[STEPS * BATCH / pair[side] for pair in real] for side in (0, 1)]
    at_most = functools.partial(pairs.row, better="at most", bar=1.0)
    return [
        at_most("one log() of three metrics / 50 us", logs, [50.0] * runs, unit="us"),
        at_most("added to a step of a null model / 15 us", added, [15.0] * runs, unit="us"),
        pairs.row(
            "rate of our loop / hand-written loop, resnet8 on digits",
            *rates,
            unit="images/s",
            bar=round(1 / 1.01, 3),
            better="more",
        ),
    ]


def pixels() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return decoded digits [N, 8, 8, 1] and labels [N]."""
    known = digits.pngs()
    decoded = [decode.decode(data, size=(8, 8), channels=1) for data, _ in known]
    return np.stack(decoded), np.array([digit for _, digit in known], dtype=np.int64)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def log_cost_us(folder: pathlib.Path) -> float:
    """Return what one call costs its caller, spool and event file on."""
    report = reporter.Reporter(worker_env.load(ranks.variables(folder)))
    values = {"train/loss": 0.5, "learning_rate": 0.1, "images_per_second": 1234.5}
    seconds = timed(lambda: [report.log(step, values) for step in range(LOGS)])
    report.close()
    return seconds / LOGS * 1e6


class Kept:
    """Digits in memory behind the interface of a feed, as ``ImageFeed`` serves them."""

    def __init__(self, images: Any, labels: Any) -> None:
        self._images = images
        self._labels = labels

    def __len__(self) -> int:
        return len(self._images)

    def take(self, items: order.Ints, seeds: order.Ints | None) -> feeds.Batch:
        """Return a batch, moved by up to one pixel."""
        taken = self._images[items]
        planes = taken.transpose(0, 3, 1, 2)
        if seeds is not None:
            planes = augment.augment(taken, seeds, shift=1, flip=False)
        inputs = torch.from_numpy(np.ascontiguousarray(planes)).float().div_(255.0)
        return feeds.Batch(inputs, torch.from_numpy(self._labels[items]))

    def expect(self, items: order.Ints) -> None:
        """Do nothing."""


def train(folder: pathlib.Path, images: Any, labels: Any, steps: int, stop: Any) -> None:
    """Train with our loop: reports, events, checkpoints and the stop signal are on."""
    torch.manual_seed(0)
    model = resnet.build("resnet8", channels=1, classes=10, size=8)
    work = task.Task(
        model=model,
        train=Kept(images, labels),
        evaluate=None,
        loss=task.cross_entropy_sum(0.05),
        classes=digits.CLASSES,
    )
    run(folder, work, {"iterations": steps, "batch_size": BATCH}, stop)


def run(folder: pathlib.Path, work: task.Task, hparams: dict[str, Any], stop: Any) -> loop.Result:
    """Run our loop to its end."""
    env = worker_env.load(ranks.variables(folder))
    given = hyper.parse({name: str(value) for name, value in hparams.items()}, extra=False)
    batch = hyper.global_batch(given, samples=len(work.train), workers=1)
    plan = loop.Plan(
        total_steps=given.iterations,
        global_batch=batch,
        checkpoint_every=100,
        report_every=20,
        eval_every=0,
    )
    report, saver = reporter.Reporter(env), checkpoints.Saver(env)
    tools = loop.Tools(single.Single(), report, saver, stop)
    result = loop.Loop(work, given, plan, tools).run()
    saver.close()
    report.close()
    return result


def hand_written(images: Any, labels: Any, steps: int) -> None:
    """The same training as anyone would write it, without reports and checkpoints."""
    torch.manual_seed(0)
    model = resnet.build("resnet8", channels=1, classes=10, size=8)
    given = hyper.HyperParameters()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    feed = Kept(images, labels)
    rng = np.random.default_rng(0)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    chosen = rng.permutation(len(images))
    for step in range(steps):
        start = step * BATCH % (len(images) - BATCH)
        items = chosen[start : start + BATCH]
        batch = feed.take(items, rng.integers(0, 2**62, BATCH))
        for group in optimizer.param_groups:
            group["lr"] = optimizing.rate_at(step, steps, given, peak=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss_of(model(batch.inputs), batch.targets).backward()
        optimizer.step()


NULL_STEPS = 2_000


def ours_null(folder: pathlib.Path, stop: Any) -> float:
    """Return the microseconds of a step of our loop on a model that does next to nothing."""
    inputs = torch.zeros(64, 1)
    work = task.Task(
        model=nn.Linear(1, 2),
        train=feeds.ArrayFeed(inputs, torch.zeros(64, dtype=torch.int64)),
        evaluate=None,
        loss=task.cross_entropy_sum(0.0),
    )
    hparams = {"iterations": NULL_STEPS, "batch_size": 1}
    return run(folder, work, hparams, stop).pace.seconds / NULL_STEPS * 1e6


def plain_null() -> float:
    """Return the microseconds of the same step in bare torch."""
    model = nn.Linear(1, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    inputs, targets = torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64)

    def work() -> None:
        for _ in range(NULL_STEPS):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()

    return timed(work) / NULL_STEPS * 1e6


if __name__ == "__main__":
    main()
