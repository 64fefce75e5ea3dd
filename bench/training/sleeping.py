"""Models that sleep instead of computing, so that many workers fit on few processors.

Their gradients, the sums and the network are real; only the arithmetic is not. What a layer needs
forward and backward is a time, and its gradient is ready when that time has passed.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import parallel

from quintile_trainer.calibration import ranks, steps

BATCH = 32


@dataclass(frozen=True)
class Net:
    """So many layers of so many float32 values, and seconds of both passes over all layers."""

    name: str
    layers: int
    values: int
    forward_s: float
    backward_s: float


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, net: Net) -> torch.Tensor:
        ctx.net, ctx.shape = net, weight.shape
        time.sleep(net.forward_s / net.layers)
        return inputs + 1

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        time.sleep(ctx.net.backward_s / ctx.net.layers)
        return gradient, torch.ones(ctx.shape), None


class Sleeper(nn.Module):
    """The layers of a net."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net
        self.weights = nn.ParameterList(torch.zeros(net.values) for _ in range(net.layers))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Sleep through all layers."""
        for weight in self.weights:
            inputs = _Layer.apply(inputs, weight, self.net)
        return inputs


@dataclass(frozen=True)
class Alone:
    """What a net does without others: steps, parts of one, buckets (bytes, ready)."""

    steps_s: list[float]
    forward_s: float
    backward_s: float
    buckets: list[tuple[int, float]]


def alone(member: ranks.Member, net: Net, count: int) -> Alone:
    """Measure some steps of this rank."""
    del member
    model = Sleeper(net)
    arrived: dict[str, float] = {}
    for name, weight in model.named_parameters():
        weight.register_post_accumulate_grad_hook(
            lambda _, name=name: arrived.__setitem__(name, time.perf_counter())
        )
    whole, forward, backward = [], [], []
    ready: list[list[float]] = []
    for _ in range(count):
        model.zero_grad()
        begun = time.perf_counter()
        outputs = model(_inputs())
        between = time.perf_counter()
        outputs.sum().backward()
        ended = time.perf_counter()
        whole.append(ended - begun)
        forward.append(between - begun)
        backward.append(ended - between)
        ready.append([(at - between) / (ended - between) for at in sorted(arrived.values())])
    shares = [statistics.median(row) for row in zip(*ready, strict=True)]
    sizes = [4 * net.values] * net.layers
    return Alone(
        whole,
        statistics.median(forward),
        statistics.median(backward),
        steps.cut(list(zip(sizes, shares, strict=True))),
    )


_KEPT: dict[tuple[Net, int], nn.Module] = {}


def together(member: ranks.Member, net: Net, world: int, count: int) -> list[float]:
    """Measure steps of the first ``world`` ranks under DistributedDataParallel."""
    key = (net, world)
    if key not in _KEPT:
        torch.manual_seed(0)
        _KEPT[key] = parallel.DistributedDataParallel(
            Sleeper(net), process_group=member.group(world), gradient_as_bucket_view=True
        )
        for _ in range(2):
            _KEPT[key](_inputs()).sum().backward()
    wrapped, found = _KEPT[key], []
    member.meet(world)
    for _ in range(count):
        wrapped.zero_grad()
        begun = time.perf_counter()
        wrapped(_inputs()).sum().backward()
        found.append(time.perf_counter() - begun)
    return found


def _inputs() -> torch.Tensor:
    return torch.zeros(4, requires_grad=True)
