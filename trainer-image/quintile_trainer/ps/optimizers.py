"""The optimizer step on one chunk, in place.

The same operations in the same order as torch's own loop over single tensors, which work element by
element: a chunk gets bit for bit what the whole tensor would get. While a chunk is worked on it
stays in the processor's cache, which is what fusing is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from quintile_trainer import failures

Kind = Literal["sgd", "adam", "adamw"]
ENTRIES: Mapping[str, tuple[str, ...]] = {
    "sgd": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
}


@dataclass(frozen=True)
class Rule:
    """An optimizer and its settings; the learning rate comes with every push.

    ``decays`` holds the weight decay of each optimizer group of the layout.
    """

    kind: Kind
    decays: tuple[float, ...] = (0.0,)
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.kind not in ENTRIES:
            raise failures.BadInput(
                f"optimizer {self.kind!r} is unknown to parameter servers; expected "
                f"{', '.join(sorted(ENTRIES))}"
            )
        if self.nesterov and self.momentum <= 0:
            raise failures.BadInput("nesterov needs a momentum above 0")

    @property
    def entries(self) -> tuple[str, ...]:
        """Return the names of the state that each element has."""
        return ENTRIES[self.kind] if self.kind != "sgd" or self.momentum > 0 else ()

    def document(self) -> dict[str, Any]:
        """Return this as JSON."""
        return {
            "kind": self.kind,
            "decays": list(self.decays),
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "betas": list(self.betas),
            "eps": self.eps,
        }


def parse(document: dict[str, Any]) -> Rule:
    """Return the rule that ``Rule.document`` describes."""
    lists = {name: tuple(document[name]) for name in ("decays", "betas")}
    return Rule(**{**document, **lists})


def rule_of(optimizer: torch.optim.Optimizer) -> Rule:
    """Return the rule of a torch optimizer; its groups are the layout's groups, in order.

    Raises:
        BadInput: It is of another kind, or has an option that parameter servers do not have.
    """
    kinds: dict[type, Kind] = {
        torch.optim.SGD: "sgd",
        torch.optim.Adam: "adam",
        torch.optim.AdamW: "adamw",
    }
    kind = kinds.get(type(optimizer))
    if kind is None:
        raise failures.BadInput(
            f"parameter servers have no {type(optimizer).__name__}; use SGD, Adam or AdamW"
        )
    groups = optimizer.param_groups
    if kind == "adam" and groups[0].get("decoupled_weight_decay"):
        kind = "adamw"
    for option in ("dampening", "amsgrad", "maximize"):
        if any(group.get(option) for group in groups):
            raise failures.BadInput(f"parameter servers have no {option}; leave it out")
    shared = ("momentum", "nesterov", "betas", "eps")
    first = {name: groups[0][name] for name in shared if name in groups[0]}
    if any(group[name] != value for group in groups for name, value in first.items()):
        raise failures.BadInput("the groups of an optimizer may differ in weight_decay only")
    return Rule(kind=kind, decays=tuple(group["weight_decay"] for group in groups), **first)


@dataclass
class State:
    """What a chunk's step works on: fp32, shape (size,).

    ``entries`` holds the rule's state tensors; ``fresh`` says that momentum has no value yet;
    ``steps`` counts updates.
    """

    master: torch.Tensor
    entries: tuple[torch.Tensor, ...]
    decay: float
    steps: int = 0
    fresh: bool = True


def step(rule: Rule, state: State, gradient: torch.Tensor, rate: float) -> None:
    """Update a chunk; ``gradient`` (fp32, same shape) is used up."""
    state.steps += 1
    if rule.kind == "sgd":
        _sgd(rule, state, gradient, rate)
    else:
        _adam(rule, state, gradient, rate)
    state.fresh = False


def _sgd(rule: Rule, state: State, gradient: torch.Tensor, rate: float) -> None:
    if state.decay != 0:
        gradient.add_(state.master, alpha=state.decay)
    if rule.momentum != 0:
        (momentum,) = state.entries
        if state.fresh:
            momentum.copy_(gradient)
        else:
            momentum.mul_(rule.momentum).add_(gradient)
        if rule.nesterov:
            gradient.add_(momentum, alpha=rule.momentum)
        else:
            gradient = momentum
    state.master.add_(gradient, alpha=-rate)


def _adam(rule: Rule, state: State, gradient: torch.Tensor, rate: float) -> None:
    beta1, beta2 = rule.betas
    average, square = state.entries
    if state.decay != 0:
        if rule.kind == "adamw":
            state.master.mul_(1 - rate * state.decay)
        else:
            gradient.add_(state.master, alpha=state.decay)
    average.lerp_(gradient, 1 - beta1)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    correction1 = 1 - beta1**state.steps
    correction2 = 1 - beta2**state.steps
    torch.sqrt(square, out=gradient)
    gradient.div_(correction2**0.5).add_(rule.eps)
    state.master.addcdiv_(average, gradient, value=-(rate / correction1))
