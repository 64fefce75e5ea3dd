"""Batches of tensors for the loop, from images of a dataset or from what user functions gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils import data as torch_data

from quintile_trainer import failures
from quintile_trainer.data import augment, images


@dataclass(frozen=True)
class Batch:
    """Inputs [B, ...] and targets [B, ...]."""

    inputs: torch.Tensor
    targets: torch.Tensor


class Feed(Protocol):
    """Samples 0 .. len-1 as batches."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def take(self, items: Sequence[int], seeds: Sequence[int] | None) -> Batch:
        """Return some samples; ``seeds`` (one per sample) augment them, None leaves them alone."""
        ...


class ImageFeed:
    """Images of one part of a dataset, normalised to mean 0 and deviation 1 per channel.

    Args:
        source: Decoded pixels.
        mean, spread: Per channel, in 0 .. 1.
        shift: Augmentation in pixels.
        flip: Whether images are mirrored.
    """

    def __init__(
        self,
        source: images.ImageSource,
        *,
        mean: Sequence[float],
        spread: Sequence[float],
        shift: int,
        flip: bool,
    ) -> None:
        self._source = source
        self._scale = torch.tensor([1.0 / (255.0 * value) for value in spread]).view(1, -1, 1, 1)
        offset = [-m / s for m, s in zip(mean, spread, strict=True)]
        self._offset = torch.tensor(offset).view(1, -1, 1, 1)
        self._shift = shift
        self._flip = flip

    def __len__(self) -> int:
        return len(self._source)

    def take(self, items: Sequence[int], seeds: Sequence[int] | None) -> Batch:
        """Return images [B, C, H, W] float32 and class ids [B]."""
        pixels = self._source.batch(items)
        if seeds is not None:
            pixels = augment.augment(pixels, seeds, shift=self._shift, flip=self._flip)
        planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        inputs = planes.float().mul_(self._scale).add_(self._offset)
        return Batch(inputs, torch.from_numpy(self._source.labels(items)))


class ArrayFeed:
    """Arrays (inputs [N, ...], targets [N, ...]) of a user's ``input_fn``; bytes become 0 .. 1."""

    def __init__(self, inputs: Any, targets: Any) -> None:
        self._inputs = _tensor(inputs)
        self._targets = _tensor(targets)
        if len(self._inputs) != len(self._targets):
            raise failures.BadInput(
                f"input_fn returned {len(self._inputs)} inputs and {len(self._targets)} targets; "
                "expected one target per input"
            )

    def __len__(self) -> int:
        return len(self._inputs)

    def take(self, items: Sequence[int], seeds: Sequence[int] | None) -> Batch:
        """Return the samples as they are."""
        index = torch.tensor(list(items), dtype=torch.int64)
        return Batch(_scaled(self._inputs[index]), _widened(self._targets[index]))


class DatasetFeed:
    """A map-style torch Dataset of a user's ``input_fn``."""

    def __init__(self, dataset: torch_data.Dataset[Any]) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)  # type: ignore[arg-type]

    def take(self, items: Sequence[int], seeds: Sequence[int] | None) -> Batch:
        """Return the samples, stacked."""
        pairs = [self._dataset[item] for item in items]
        inputs = torch.stack([_tensor(pair[0]) for pair in pairs])
        targets = torch.stack([_tensor(pair[1]) for pair in pairs])
        return Batch(_scaled(inputs), _widened(targets))


def from_user(given: Any, *, split: str) -> Feed:
    """Return the feed of what ``input_fn(split, hparams)`` returned.

    Raises:
        BadInput: It is neither a pair of arrays nor a map-style Dataset.
    """
    if isinstance(given, tuple) and len(given) == 2:
        feed: Feed = ArrayFeed(*given)
    elif hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        feed = DatasetFeed(given)
    else:
        raise failures.BadInput(
            f"input_fn({split!r}) returned {type(given).__name__}; expected a pair "
            "(inputs [N, ...], targets [N]) or a torch Dataset with a length"
        )
    if not len(feed):
        raise failures.BadInput(f"input_fn({split!r}) returned no samples")
    return feed


def _tensor(value: Any) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else torch.as_tensor(np.asarray(value))


def _scaled(inputs: torch.Tensor) -> torch.Tensor:
    if inputs.dtype == torch.uint8:
        return inputs.float() / 255.0
    return inputs.float() if inputs.dtype == torch.float64 else inputs


def _widened(targets: torch.Tensor) -> torch.Tensor:
    whole = not targets.is_floating_point() and targets.dtype != torch.bool
    return targets.long() if whole else targets
