"""Rate of training: our loop beside Accelerate and Lightning, on one network and the same batches.

    python bench/training/frameworks.py [--quick] [--out FILE]

All sides take turns in one process of the environment that ``make bench-peers`` makes, on the torch
that it has. Ours reports metrics, writes event files and saves;
theirs do nothing but train: no logger, no checkpoint, no progress bar.
"""

from __future__ import annotations

import argparse
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import loop
import numpy as np
import pairs
import torch
from torch import nn

from quintile_trainer import hyper, optimizing, stopping
from quintile_trainer.models import resnet

STEPS = 80
BAR = 1.0
ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv-peers" / "bin" / "python"


def main() -> None:
    """Measure, print, and store the rows as JSON with ``--out``."""
    parser = argparse.ArgumentParser(prog="bench/training/frameworks.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pairs")
    parser.add_argument("--out", type=pathlib.Path, help="where to write the rows as JSON")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if not asked.inside:
        if not PEERS.exists():
            sys.exit("Accelerate and Lightning are not here: run `make bench-peers` first.")
        # The project's own folders; what is installed is the peers', torch as well.
        ours = [path for path in sys.path if path.startswith(str(ROOT)) and ".venv" not in path]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(ours)}
        sys.exit(subprocess.run([PEERS, *sys.argv, "--inside"], env=env, check=False).returncode)
    torch.set_num_threads(1)
    rows = measure(runs=5 if asked.quick else 9)
    pairs.tell(rows, asked.out)


def measure(*, runs: int) -> list[pairs.Row]:
    """Return a row per peer; the first turn of every side is a warm-up."""
    stop = stopping.StopSignal()
    images, labels = loop.pixels()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)

        def ours(run: int) -> None:
            loop.train(folder / f"run-{run}", images, labels, STEPS, stop)

        sides: dict[str, Callable[[int], None]] = {
            "ours": ours,
            "Accelerate": lambda _run: with_accelerate(Batches(images, labels)),
            "Lightning": lambda _run: with_lightning(Batches(images, labels)),
        }
        rates: dict[str, list[float]] = {side: [] for side in sides}
        for run in range(runs + 1):
            for side in sides if run % 2 else reversed(sides):
                seconds = loop.timed(lambda side=side, run=run: sides[side](run))
                rates[side].append(STEPS * loop.BATCH / seconds)
    return [
        pairs.row(
            f"rate of our loop / {peer}, resnet8 on digits",
            rates["ours"][1:],
            rates[peer][1:],
            unit="images/s",
            bar=BAR,
            better="more",
        )
        for peer in sides
        if peer != "ours"
    ]


class Batches:
    """The batches of a run, cut and moved as our own feed does it."""

    def __init__(self, images: Any, labels: Any) -> None:
        self._feed = loop.Kept(images, labels)

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Any]:
        rng = np.random.default_rng(0)
        chosen = rng.permutation(len(self._feed))
        for step in range(STEPS):
            start = step * loop.BATCH % (len(self._feed) - loop.BATCH)
            items = chosen[start : start + loop.BATCH]
            batch = self._feed.take(items, rng.integers(0, 2**62, loop.BATCH))
            yield batch.inputs, batch.targets


def network() -> nn.Module:
    """Return the network, with equal weights each time."""
    torch.manual_seed(0)
    return resnet.build("resnet8", channels=1, classes=10, size=8)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """Return torch's optimizer as our loop's default is."""
    return torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4
    )


def schedule(optimizer: Any, step: int) -> None:
    """Set the rate of a step."""
    rate = optimizing.rate_at(step, STEPS, hyper.HyperParameters(), peak=0.1)
    for group in optimizer.param_groups:
        group["lr"] = rate


LOSS = nn.CrossEntropyLoss(label_smoothing=0.05)


def with_accelerate(batches: Batches) -> None:
    """Train as Accelerate's documentation shows."""
    import accelerate

    accelerator = accelerate.Accelerator(cpu=True)
    model = network()
    model, optimizer = accelerator.prepare(model, sgd(model))
    model.train()
    for step, (inputs, targets) in enumerate(batches):
        schedule(optimizer, step)
        optimizer.zero_grad()
        accelerator.backward(LOSS(model(inputs), targets))
        optimizer.step()


def with_lightning(batches: Batches) -> None:
    """Train as Lightning's documentation shows."""
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def training_step(self, batch: Any, step: int) -> torch.Tensor:
            schedule(self.optimizers(), step)
            inputs, targets = batch
            loss: torch.Tensor = LOSS(self.network(inputs), targets)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return sgd(self)

    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), batches)


if __name__ == "__main__":
    main()
