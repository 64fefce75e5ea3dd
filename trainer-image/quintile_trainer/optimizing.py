"""Optimizer, learning rate and their state by parameter name."""

from __future__ import annotations

import math

import torch
from torch import nn

from quintile_trainer import failures, hyper


def build(model: nn.Module, given: hyper.HyperParameters, *, rate: float) -> torch.optim.Optimizer:
    """Return the optimizer; vectors (norms, biases) are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise failures.BadInput("model_fn returned a model without trainable parameters")
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": given.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if given.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate)
    return torch.optim.SGD(groups, lr=rate, momentum=given.momentum, nesterov=given.momentum > 0)


def rate_at(step: int, total: int, given: hyper.HyperParameters, *, peak: float) -> float:
    """Return the learning rate of global step ``step`` (from 0) of ``total``. Pure."""
    warm = max(1, round(given.warmup * total))
    if step < warm:
        return peak * (step + 1) / warm
    if given.schedule == "constant":
        return peak
    done = (step - warm) / max(1, total - warm)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return copies of the optimizer's tensors, keyed ``<parameter name>/<entry>``."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors = {}
    for parameter, entries in optimizer.state.items():
        for entry, value in entries.items():
            if isinstance(value, torch.Tensor):
                copy = value.detach().clone().contiguous().cpu()
                tensors[f"{names[id(parameter)]}/{entry}"] = copy
    return tensors


def restore(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    """Put back what ``state`` returned.

    Raises:
        Broken: The checkpoint names a parameter that the model does not have.
    """
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        if name not in parameters:
            raise failures.Broken(f"the checkpoint holds state of {name!r}, the model has none")
        optimizer.state[parameters[name]][entry] = value.clone()
