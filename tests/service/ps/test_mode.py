"""Mode ps under a plain training loop: equal to one process, also from a checkpoint on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from quintile_trainer import failures
from quintile_trainer.ps import mode, settings

STEPS, BATCH = 8, 12


def build() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(10, 16), nn.GroupNorm(2, 16), nn.ReLU(), nn.Linear(16, 3))


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": 5e-4},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=True)


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(BATCH, 10, generator=generator)
    return inputs, torch.randint(3, (BATCH,), generator=generator)


def loss_of(model: nn.Module, step: int, *, rank: int, workers: int) -> torch.Tensor:
    """A rank's share of the global batch, as the loop scales it."""
    inputs, targets = batch(step)
    share = slice(rank, None, workers)
    loss = nn.functional.cross_entropy(model(inputs[share]), targets[share], reduction="sum")
    return loss * workers / BATCH


def train(cluster: Any, rank: int, first: int, last: int, state: Any) -> Any:
    model = build()
    optimizer = optimizer_of(model)
    if state is not None:
        names = dict(model.named_parameters())
        model.load_state_dict({n: torch.tensor(v) for n, v in state["model"].items()})
        for key, value in state["optimizer"].items():
            name, _, entry = key.rpartition("/")
            optimizer.state[names[name]][entry] = torch.tensor(value)
    ranks = mode.ParameterServers(cluster.team, cluster.secret, rank=rank)
    ranks.begin(model, optimizer, consistency=settings.Consistency("sync"), step=first)
    ranks.prepare(model)
    for step in range(first, last):
        ranks.zero_gradients()
        with ranks.sync(last=True):
            loss_of(model, step, rank=rank, workers=ranks.world_size).backward()
        ranks.step(0.1)
    total = ranks.total(torch.tensor([1.0, rank]))
    contents = ranks.checkpoint().contents() if rank == 0 else None
    ranks.close()
    found = {name: value.detach().tolist() for name, value in model.named_parameters()}
    saved = None
    if contents is not None:
        saved = {
            "model": {n: v.tolist() for n, v in contents.parameters.items()},
            "optimizer": {n: v.tolist() for n, v in contents.optimizer.items()},
        }
        assert saved["model"] == found
    return {"model": found, "saved": saved, "total": total.tolist()}


def test_two_ranks_equal_one_process_and_go_on_from_a_checkpoint(
    cluster: Callable[..., Any],
) -> None:
    model = build()
    optimizer = optimizer_of(model)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, step, rank=0, workers=1).backward()
        optimizer.step()
    half = cluster(servers=2, workers=2).work(train, 0, STEPS // 2, None)
    saved = half[0].result()["saved"]
    whole = cluster(servers=1, workers=3, generation=2).work(train, STEPS // 2, STEPS, saved)
    for rank in whole:
        found = rank.result()
        assert found["total"] == [3.0, 3.0]
        for name, value in model.named_parameters():
            assert torch.allclose(torch.tensor(found["model"][name]), value, atol=1e-5), name


def test_it_must_begin_first() -> None:
    ranks = mode.ParameterServers(settings.Team(1, 1, 1, "127.0.0.1", 1), b"token", rank=0)
    with pytest.raises(failures.Broken, match="before it began"):
        ranks.step(0.1)
