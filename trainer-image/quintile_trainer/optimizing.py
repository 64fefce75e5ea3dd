"""Optimizers with state by parameter name, and the learning rate of a step.

The arithmetic is that of ``torch.optim``, bit for bit for sgd. The classes are our own since those
of torch load its compiler at their first step: 800 modules, a second of every start of a rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn

from quintile_trainer import failures, hyper

BETAS = (0.9, 0.999)
EPSILON = 1e-8
Tensors = dict[str, torch.Tensor]


class Update(Protocol):
    """Changes one parameter by its gradient; what it remembers is kept in ``memory``."""

    def __call__(
        self, weights: torch.Tensor, gradient: torch.Tensor, memory: Tensors, *, rate: float
    ) -> None:
        """Do one step."""
        ...


class Stepper(Protocol):
    """What the training loop asks of an optimizer, wherever it works.

    ``weight`` is what a rank's share of the loss is multiplied by, so that its gradients add up;
    ``is_remote`` says that a step is an exchange with parameter servers.
    """

    weight: float
    is_remote: bool

    def begin(self, step: int, /) -> None:
        """Be ready to go on after so many steps."""
        ...

    def zero(self) -> None:
        """Forget the gradients."""
        ...

    def step(self, rate: float) -> None:
        """Change every parameter by its gradient."""
        ...

    def remember(self) -> Callable[[], Tensors]:
        """Copy the state now; return how to get it, keyed ``<parameter name>/<entry>``."""
        ...

    def restore(self, tensors: Tensors) -> None:
        """Put back what a checkpoint holds."""
        ...


class Optimizer:
    """One rank's optimizer. Parameters that are shared or frozen count once or not at all.

    Args:
        model: Whose parameters are trained; vectors (norms, biases) are not decayed.
        given: Which optimizer, with momentum and weight decay.

    Raises:
        BadInput: The model has nothing to train.
    """

    weight = 1.0
    is_remote = False

    def __init__(self, model: nn.Module, given: hyper.HyperParameters) -> None:
        self._trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        if not self._trained:
            raise failures.BadInput("model_fn returned a model without trainable parameters")
        lazy = [name for name, value in self._trained.items() if nn.parameter.is_lazy(value)]
        if lazy:
            raise failures.BadInput(
                f"parameter {lazy[0]!r} has no size yet; call the model once in model_fn, or give "
                "its layers their sizes"
            )
        decay = given.weight_decay
        updates: dict[bool, Update] = {
            is_matrix: _updater(given, decay=decay if is_matrix else 0.0)
            for is_matrix in (False, True)
        }
        self._memory: dict[str, Tensors] = {name: {} for name in self._trained}
        self._steps = [
            (weights, updates[weights.ndim > 1], self._memory[name])
            for name, weights in self._trained.items()
        ]

    def begin(self, _step: int) -> None:
        """Be ready to go on after so many steps: nothing to do."""

    def zero(self) -> None:
        """Forget the gradients."""
        for weights in self._trained.values():
            weights.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Change every parameter that has a gradient."""
        for weights, update, memory in self._steps:
            gradient = weights.grad
            if gradient is None:
                continue
            dense = gradient.to_dense() if gradient.is_sparse else gradient
            update(weights, dense, memory, rate=rate)

    def remember(self) -> Callable[[], Tensors]:
        """Copy the state now; return how to get the copies."""
        copies = self.state()
        return lambda: copies

    def state(self) -> Tensors:
        """Return copies of what is remembered, keyed ``<parameter name>/<entry>``."""
        return {
            f"{name}/{entry}": value.detach().clone().contiguous().cpu()
            for name, memory in self._memory.items()
            for entry, value in memory.items()
        }

    def restore(self, tensors: Tensors) -> None:
        """Put back what ``state`` returned.

        Raises:
            Broken: The checkpoint names a parameter that the model does not have.
        """
        for key, value in tensors.items():
            name, _, entry = key.rpartition("/")
            if name not in self._memory:
                raise failures.Broken(f"the checkpoint holds state of {name!r}, the model has none")
            self._memory[name][entry] = value.clone().to(self._trained[name].device)


def rate_at(step: int, total: int, given: hyper.HyperParameters, *, peak: float) -> float:
    """Return the learning rate of global step ``step`` (from 0) of ``total``. Pure."""
    warm = max(1, round(given.warmup * total))
    if step < warm:
        return peak * (step + 1) / warm
    if given.schedule == "constant":
        return peak
    done = (step - warm) / max(1, total - warm)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def _updater(given: hyper.HyperParameters, *, decay: float) -> Update:
    make: Callable[[hyper.HyperParameters, float], Update]
    make = _adamw if given.optimizer == "adamw" else _sgd
    return make(given, decay)


def _sgd(given: hyper.HyperParameters, decay: float) -> Update:
    """Return Nesterov's momentum."""
    momentum = given.momentum

    def update(
        weights: torch.Tensor, gradient: torch.Tensor, memory: Tensors, *, rate: float
    ) -> None:
        if decay:
            gradient = gradient.add(weights, alpha=decay)
        if momentum:
            buffer = memory.get("momentum_buffer")
            if buffer is None:
                buffer = memory["momentum_buffer"] = gradient.clone()
            else:
                buffer.mul_(momentum).add_(gradient)
            gradient = gradient.add(buffer, alpha=momentum)
        weights.add_(gradient, alpha=-rate)

    return update


def _adamw(_given: hyper.HyperParameters, decay: float) -> Update:
    """Return Adam with decoupled weight decay."""

    def update(
        weights: torch.Tensor, gradient: torch.Tensor, memory: Tensors, *, rate: float
    ) -> None:
        if not memory:
            memory["step"] = torch.zeros(())
            memory["exp_avg"] = torch.zeros_like(weights)
            memory["exp_avg_sq"] = torch.zeros_like(weights)
        memory["step"] += 1
        count = int(memory["step"])
        weights.mul_(1 - rate * decay)
        memory["exp_avg"].lerp_(gradient, 1 - BETAS[0])
        memory["exp_avg_sq"].mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        scale = math.sqrt(1 - BETAS[1] ** count)
        spread = (memory["exp_avg_sq"].sqrt() / scale).add_(EPSILON)
        weights.addcdiv_(memory["exp_avg"], spread, value=-rate / (1 - BETAS[0] ** count))

    return update
