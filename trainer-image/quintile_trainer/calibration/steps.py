"""Training steps of a built-in model on made-up images, as the loop does them, timed part by part.

Also the order and the moments in which gradients become ready, from which follows what can be
summed while the backward pass goes on.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional, parallel

from quintile_trainer import hyper, optimizing
from quintile_trainer.calibration import ranks
from quintile_trainer.data import augment
from quintile_trainer.models import resnet

POOL = 256
FIRST_BUCKET_BYTES = 1 << 20
BUCKET_BYTES = 25 << 20
"""How torch's DistributedDataParallel cuts gradients."""
WARM_UP = 3


@dataclass(frozen=True)
class Wanted:
    """Which step: a built-in model, images of a batch as (height, width, channels), classes."""

    model: str
    batch: int
    image: tuple[int, int, int]
    classes: int

    @property
    def name(self) -> str:
        """Return the name of the profile."""
        height, width, channels = self.image
        return f"{self.model}, {self.batch} x {height}x{width}x{channels}"


@dataclass
class Times:
    """What some steps took, by the wall and by the thread; parts by name."""

    steps_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    parts_s: dict[str, list[float]] = field(default_factory=dict)


class Stepper:
    """One rank's model, data and optimizer; ``group`` wraps the model for the sum of gradients."""

    def __init__(self, wanted: Wanted, group: Any = None) -> None:
        height, width, channels = wanted.image
        torch.manual_seed(0)
        side = min(height, width)
        self.model = resnet.build(
            wanted.model, channels=channels, classes=wanted.classes, size=side
        )
        self._wrapped: nn.Module = self.model
        if group is not None:
            self._wrapped = parallel.DistributedDataParallel(
                self.model, process_group=group, gradient_as_bucket_view=True
            )
        given = hyper.HyperParameters()
        self._optimizer = optimizing.Optimizer(self.model, given)
        self._rate = given.rate(wanted.batch)
        self._batch, self._shift = wanted.batch, side // 10
        draws = np.random.default_rng(0)
        shape = (max(POOL, wanted.batch), height, width, channels)
        self._pixels = draws.integers(0, 256, shape, dtype=np.uint8)
        self._labels = torch.from_numpy(draws.integers(0, wanted.classes, shape[0]))
        self._number = 0
        # A thread's own clock stands while others use its processor; it knows of one thread only.
        self._clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter

    def run(self, count: int) -> Times:
        """Do some steps."""
        found = Times()
        for _ in range(count):
            begun, before = time.perf_counter(), self._clock()
            marks = self._step()
            found.steps_s.append(time.perf_counter() - begun)
            found.cpu_s.append(max(marks["update"] - before, 1e-9))
            for name, mark in marks.items():
                found.parts_s.setdefault(name, []).append(mark - before)
                before = mark
        return found

    def ready(self) -> dict[str, float]:
        """Return at which share of a backward pass each parameter's gradient is ready, in order."""
        arrived: dict[str, float] = {}

        def note(name: str) -> None:
            arrived[name] = self._clock()

        hooks = [
            value.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                lambda _, name=name: note(name)
            )
            for name, value in self.model.named_parameters()
        ]
        marks = self._step()
        for hook in hooks:
            hook.remove()
        begun, ended = marks["forward"], marks["backward"]
        ordered = sorted(arrived.items(), key=lambda one: one[1])
        return {name: min(1.0, (at - begun) / (ended - begun)) for name, at in ordered}

    def buckets(self, passes: int = 5) -> list[tuple[int, float]]:
        """Return (bytes, ready share) of each bucket, medians over some passes."""
        found = [self.ready() for _ in range(passes)]
        shares = {name: statistics.median(one[name] for one in found) for name in found[0]}
        sizes = {
            name: value.numel() * value.element_size()
            for name, value in self.model.named_parameters()
        }
        return cut([(sizes[name], share) for name, share in shares.items()])

    @property
    def parameters(self) -> int:
        """Return the number of trained values."""
        return sum(value.numel() for value in self.model.parameters())

    def _step(self) -> dict[str, float]:
        """Do one step; return when its parts ended, in order."""
        self._optimizer.zero()
        inputs, targets = self._take()
        marks = {"input": self._clock()}
        outputs = self._wrapped(inputs)
        loss = functional.cross_entropy(outputs, targets, reduction="sum") / self._batch
        marks["forward"] = self._clock()
        loss.backward()  # type: ignore[no-untyped-call]
        marks["backward"] = self._clock()
        self._optimizer.step(self._rate)
        marks["update"] = self._clock()
        return marks

    def _take(self) -> tuple[torch.Tensor, torch.Tensor]:
        self._number += 1
        items = (np.arange(self._batch) + self._number) % len(self._pixels)
        planes = augment.augment(self._pixels[items], items, shift=self._shift, flip=False)
        inputs = torch.from_numpy(planes).float().mul_(1 / 64).sub_(2.0)
        return inputs, self._labels[torch.from_numpy(items)]


def cut(gradients: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return buckets (bytes, ready) of gradients (bytes, ready) in order; the first is small."""
    found: list[tuple[int, float]] = []
    size, limit = 0, FIRST_BUCKET_BYTES
    for number, (bytes_, ready) in enumerate(gradients, 1):
        size += bytes_
        if size >= limit or number == len(gradients):
            found.append((size, ready))
            size, limit = 0, BUCKET_BYTES
    return found


def timed(member: ranks.Member, wanted: Wanted, way: str, world: int, count: int) -> Times:
    """Do ``count`` steps alone, wrapped, apart or ddp on this rank; called by ``world`` ranks."""
    stepper = _stepper(member, wanted, world if way in ("wrapped", "ddp") else 0)
    member.meet(world)
    return stepper.run(count)


def profiled(member: ranks.Member, wanted: Wanted) -> tuple[int, list[tuple[int, float]]]:
    """Return the number of parameters and the buckets."""
    stepper = _stepper(member, wanted, 0)
    return stepper.parameters, stepper.buckets()


_KEPT: dict[tuple[Wanted, int], Stepper] = {}
"""Of this process: models keep their memory between the turns of a measurement."""


def _stepper(member: ranks.Member, wanted: Wanted, world: int) -> Stepper:
    key = (wanted, world)
    if key not in _KEPT:
        _KEPT[key] = Stepper(wanted, member.group(world) if world else None)
        _KEPT[key].run(WARM_UP)
    return _KEPT[key]
