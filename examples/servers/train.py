"""A torch script whose optimizer lives on parameter servers; alone it trains without any.

::

    quintile run examples/servers/train.py -w 4 --ps 2 -- --steps 200 --lr 0.2
    quintile run examples/servers/train.py -w 4 --ps 2 --consistency async -- --steps 200
"""

from __future__ import annotations

import argparse
import sys

import torch
from torch import nn
from torch.nn import functional

BATCH = 32


def main() -> None:
    """Train a small network on handwritten digits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.2)
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    torch.manual_seed(0)
    inputs, targets = samples()
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=given.lr, momentum=0.9, nesterov=True)
    run = this_run()
    rank, workers = (run.rank, run.world_size) if run is not None else (0, 1)
    servers = run.parameter_servers(model, optimizer) if run is not None else None
    stepping = servers if servers is not None else optimizer
    chance = torch.Generator().manual_seed(rank)
    mine = torch.arange(rank, len(inputs), workers)
    for step in range(1, given.steps + 1):
        batch = mine[torch.randint(len(mine), (BATCH,), generator=chance)]
        stepping.zero_grad()
        loss = functional.cross_entropy(model(inputs[batch]), targets[batch])
        loss.backward()
        stepping.step()
        if run is not None:
            run.progress(step, given.steps)
            if step % 20 == 0:
                run.log(step=step, loss=loss.item())
    if servers is not None:
        servers.barrier()
    if rank == 0:
        right = (model(inputs).argmax(1) == targets).float().mean().item()
        sys.stdout.write(f"accuracy on what it learned from: {right:.4f}\n")
        if servers is not None:
            sys.stdout.write(f"parameter servers: {servers.summary()}\n")


def this_run():
    """Return the run that this process is a rank of, None when it was started by hand."""
    try:
        from quintile_trainer import context

        return context.current()
    except (ImportError, RuntimeError):
        return None


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    """Return images [N, 64] in 0 .. 1 and digits [N]."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return torch.tensor(digits.data / 16.0).float(), torch.tensor(digits.target)


if __name__ == "__main__":
    main()
