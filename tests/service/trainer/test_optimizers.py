"""Our optimizers against those of torch. Apart from the unit tests: torch's load its compiler."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from quintile_trainer import hyper, optimizing

pytestmark = pytest.mark.torch


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))


def ours(given: hyper.HyperParameters) -> list[torch.Tensor]:
    model = small()
    optimizer = optimizing.Optimizer(model, given)
    for _ in range(5):
        optimizer.zero()
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step(0.1)
    return list(model.parameters())


def reference(kind: Any, **options: Any) -> list[torch.Tensor]:
    """Weights after five steps with an optimizer of torch, vectors not decayed."""
    model = small()
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = kind(groups, lr=0.1, **options)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    return parameters


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_that_of_torch_to_the_bit(momentum: float) -> None:
    given = hyper.HyperParameters(momentum=momentum, weight_decay=0.01)
    options = {"momentum": momentum, "nesterov": momentum > 0}
    for a, b in zip(ours(given), reference(torch.optim.SGD, **options), strict=True):
        assert torch.equal(a, b)


def test_adamw_is_that_of_torch() -> None:
    given = hyper.HyperParameters(optimizer="adamw", weight_decay=0.01)
    for a, b in zip(ours(given), reference(torch.optim.AdamW), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
