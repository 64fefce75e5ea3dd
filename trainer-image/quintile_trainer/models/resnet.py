"""Small residual networks for classification: resnet8, resnet18, resnet34, resnet50.

They take float images [B, C, H, W] from 8x8 pixels up: small inputs keep their resolution in the
stem, and a stage halves it only while there is something to halve. Normalisation is GroupNorm: it
sees one image at a time, so that a run on n workers computes what a run on one computes, a worker
whose share of the last batch is one image still normalises, and no running statistics have to be
kept equal between ranks. (BatchNorm would be somewhat faster on large batches.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

LARGE_INPUT = 96
SMALLEST_SIDE = 4


@dataclass(frozen=True)
class Shape:
    """Blocks by stage, channels of the first stage, and whether blocks have a bottleneck."""

    blocks: tuple[int, ...]
    width: int
    bottleneck: bool = False


SHAPES = {
    "resnet8": Shape((1, 1, 1), 32),
    "resnet18": Shape((2, 2, 2, 2), 64),
    "resnet34": Shape((3, 4, 6, 3), 64),
    "resnet50": Shape((3, 4, 6, 3), 64, bottleneck=True),
}


def build(name: str, *, channels: int, classes: int, size: int) -> nn.Module:
    """Return a network with fresh weights from torch's current random state.

    Args:
        name: Key of ``SHAPES``.
        channels: Channels of the images, 1 or 3.
        classes: Number of classes.
        size: Shorter side of the images in pixels.

    Raises:
        KeyError: No such network.
    """
    return ResNet(SHAPES[name], channels=channels, classes=classes, size=size)


class ResNet(nn.Module):
    """Stem, stages of residual blocks, mean over the plane, linear head."""

    def __init__(self, shape: Shape, *, channels: int, classes: int, size: int) -> None:
        super().__init__()
        self.stem, side = _stem(channels, shape.width, size)
        stages: list[Basic | Bottleneck] = []
        before = shape.width
        for number, blocks in enumerate(shape.blocks):
            width = shape.width * 2**number
            after = width * 4 if shape.bottleneck else width
            halve = number > 0 and side >= 2 * SMALLEST_SIDE
            side = side // 2 if halve else side
            for place in range(blocks):
                stride = 2 if halve and place == 0 else 1
                kind = Bottleneck if shape.bottleneck else Basic
                stages.append(kind(before, after, stride=stride))
                before = after
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before, classes)
        self.apply(_initialise)
        for block in stages:
            # Blocks begin as the identity, which lets deep ones train without a long warm-up.
            nn.init.zeros_(block.last_norm.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [B, classes] of images [B, C, H, W]."""
        features: torch.Tensor = self.stages(self.stem(images))
        logits: torch.Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


class Basic(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        self.first = _convolution(before, after, kernel=3, stride=stride)
        self.first_norm = _norm(after)
        self.second = _convolution(after, after, kernel=3)
        self.last_norm = _norm(after)
        self.shortcut = _shortcut(before, after, stride)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        hidden = torch.relu(self.first_norm(self.first(inputs)))
        hidden = self.last_norm(self.second(hidden))
        return torch.relu(hidden + self.shortcut(inputs))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside a shortcut; the middle has a quarter of the channels."""

    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        middle = after // 4
        self.first = _convolution(before, middle, kernel=1)
        self.first_norm = _norm(middle)
        self.second = _convolution(middle, middle, kernel=3, stride=stride)
        self.second_norm = _norm(middle)
        self.third = _convolution(middle, after, kernel=1)
        self.last_norm = _norm(after)
        self.shortcut = _shortcut(before, after, stride)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        hidden = torch.relu(self.first_norm(self.first(inputs)))
        hidden = torch.relu(self.second_norm(self.second(hidden)))
        hidden = self.last_norm(self.third(hidden))
        return torch.relu(hidden + self.shortcut(inputs))


def _stem(channels: int, width: int, size: int) -> tuple[nn.Module, int]:
    """Return the stem and the side after it; large images are shrunk fourfold at once."""
    if size < LARGE_INPUT:
        layers: Sequence[nn.Module] = (_convolution(channels, width, kernel=3), _norm(width))
        return nn.Sequential(*layers, nn.ReLU()), size
    first = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
    return nn.Sequential(first, _norm(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)), size // 4


def _shortcut(before: int, after: int, stride: int) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    return nn.Sequential(_convolution(before, after, kernel=1, stride=stride), _norm(after))


def _convolution(before: int, after: int, *, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, min(32, channels // 8)), channels)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
