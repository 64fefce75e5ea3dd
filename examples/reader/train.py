"""A script that reads a dataset of the platform: exact order, exact resume, any number of ranks.

::

    quintile run examples/reader/train.py --dataset digits:1 -w 2 --mode ddp -- --epochs 3
"""

from __future__ import annotations

import argparse
import os
import pathlib

import torch
from torch import distributed, nn
from torch.nn import functional

import quintile
from quintile import data

STATE = pathlib.Path("state")


def main() -> None:
    """Train a linear model on all ranks; save it every 10 steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    world_size = int(os.environ["WORLD_SIZE"])
    if world_size > 1:
        distributed.init_process_group("gloo")
    reader = data.reader(batch_size=16, epochs=given.epochs)
    model = nn.LazyLinear(len(reader.classes))
    model(torch.zeros(1, *inputs_of(next(iter(reader.evaluation()))).shape[1:]))
    if (folder := quintile.restored()) is not None:
        model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    elif world_size > 1:
        for weight in model.parameters():
            distributed.broadcast(weight.data, 0)
    for batch in reader:
        model.zero_grad()
        # A sum over the whole step, so that shares of different sizes count as they should.
        logits = model(inputs_of(batch))
        loss = functional.cross_entropy(logits, torch.from_numpy(batch.labels), reduction="sum")
        (loss / batch.global_size).backward()
        with torch.no_grad():
            for weight in model.parameters():
                if world_size > 1:
                    distributed.all_reduce(weight.grad)
                weight -= given.lr * weight.grad
        if batch.step % 10 == 0 or batch.step == reader.steps:
            STATE.mkdir(exist_ok=True)
            torch.save(model.state_dict(), STATE / "model.pt")
            quintile.checkpoint(STATE)
    right = sum(hits(model, batch) for batch in reader.evaluation())
    print(f"step {reader.steps}: {right} right on this rank")


def inputs_of(batch: data.Batch) -> torch.Tensor:
    """Return pixels in 0 .. 1, one row an image."""
    return torch.from_numpy(batch.images).flatten(1).float() / 255.0


def hits(model: nn.Module, batch: data.Batch) -> int:
    """Return how many of a batch the model gets right."""
    guesses = model(inputs_of(batch)).argmax(1)
    return int((guesses == torch.from_numpy(batch.labels)).sum())


if __name__ == "__main__":
    main()
