"""A plain torch script: one process or many, started by torchrun or by Quintile, unchanged.

::

    quintile run examples/script/train.py -w 2 --mode ddp -- --steps 60 --lr 0.1
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

import torch
from torch import distributed, nn
from torch.nn import functional


def main() -> None:
    """Train a linear model on all ranks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > 1:
        distributed.init_process_group("gloo")
    torch.manual_seed(0)
    inputs, targets = samples()
    mine = slice(rank, None, world_size)
    model: nn.Module = nn.Linear(64, 10)
    if world_size > 1:
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=given.lr)
    for step in range(1, given.steps + 1):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs[mine]), targets[mine])
        loss.backward()
        optimizer.step()
        if rank == 0 and step % 10 == 0:
            tell(step, given.steps, loss.item())
    if rank == 0:
        right = (model(inputs).argmax(1) == targets).float().mean().item()
        sys.stdout.write(f"accuracy on what it learned from: {right:.4f}\n")
    if world_size > 1:
        distributed.destroy_process_group()


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    """Return images [N, 64] in 0 .. 1 and digits [N]."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return torch.tensor(digits.data / 16.0).float(), torch.tensor(digits.target)


def tell(step: int, steps: int, loss: float) -> None:
    """Print, and report to Quintile when this is a run of it."""
    sys.stdout.write(f"step {step} loss {loss:.4f}\n")
    with contextlib.suppress(ImportError):
        from quintile_trainer import context

        with contextlib.suppress(context.NotInRank):
            run = context.current()
            run.log(step=step, loss=loss)
            run.progress(step, steps)


if __name__ == "__main__":
    main()
