"""What is trained: model, samples, loss, metrics. Made by ``assembly``, used by ``loop``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from quintile_trainer import failures
from quintile_trainer.data import feeds

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
MetricFunction = Callable[[torch.Tensor, torch.Tensor], Mapping[str, float]]


@dataclass(frozen=True)
class Task:
    """One model and what it learns from.

    Attributes:
        model: The bare module.
        train: Training samples.
        evaluate: Evaluation samples, None without evaluation.
        loss: (outputs, targets) -> *sum* over the samples.
        metric: The user's (outputs, targets) -> means over the samples; None = accuracy.
        classes: Class names, empty when the targets are no classes.
        agreement: The word for the share of equal labels: ``accuracy``, or ``agreement`` when
            machine-made labels are among those compared with.
        side: Shorter side of the images in pixels, 0 when the inputs are no images of ours.
        about: What ``model.json`` says beyond names and shapes.
    """

    model: nn.Module
    train: feeds.Feed
    evaluate: feeds.Feed | None
    loss: LossFunction
    metric: MetricFunction | None = None
    classes: tuple[str, ...] = ()
    agreement: str = "accuracy"
    side: int = 0
    about: dict[str, Any] = field(default_factory=dict)


def cross_entropy_sum(smoothing: float) -> LossFunction:
    """Return the default loss: cross entropy with label smoothing, summed."""

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(
            outputs, targets, reduction="sum", label_smoothing=smoothing
        )

    return loss


def summed(mean: LossFunction) -> LossFunction:
    """Return the sum of a user's loss, which is a mean over the samples."""

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        value = mean(outputs, targets)
        if not isinstance(value, torch.Tensor) or value.ndim != 0:
            shape = tuple(getattr(value, "shape", ()))
            raise failures.BadInput(
                f"loss_fn returned {type(value).__name__} of shape {shape}; "
                "expected a scalar tensor, the mean over the samples"
            )
        return value * len(targets)

    return loss
