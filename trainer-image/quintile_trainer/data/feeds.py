"""Batches of tensors for the loop, from images of a dataset or from what user functions gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils import data as torch_data

from quintile_trainer import failures, seeding
from quintile_trainer.data import augment, images, order


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

    def take(self, items: order.Ints, seeds: order.Ints | None) -> Batch:
        """Return samples [B]; ``seeds`` [B] augment them, None leaves them as they are."""
        ...

    def expect(self, items: order.Ints) -> None:
        """Begin to make ready what the next ``take`` will ask for; may do nothing."""
        ...


@dataclass(frozen=True)
class Look:
    """How images become inputs.

    ``mean`` and ``spread`` per channel, in 0 .. 1; in training images move by up to ``shift``
    pixels and, with ``flip``, half of them are mirrored.
    """

    mean: Sequence[float]
    spread: Sequence[float]
    shift: int
    flip: bool


class ImageFeed:
    """Images of one part of a dataset, normalised to mean 0 and deviation 1 per channel."""

    def __init__(self, source: images.ImageSource, look: Look) -> None:
        self._source = source
        self._look = look
        scale = [1.0 / (255.0 * value) for value in look.spread]
        self._scale = torch.tensor(scale).view(1, -1, 1, 1)
        offset = [-m / s for m, s in zip(look.mean, look.spread, strict=True)]
        self._offset = torch.tensor(offset).view(1, -1, 1, 1)

    def __len__(self) -> int:
        return len(self._source)

    def take(self, items: order.Ints, seeds: order.Ints | None) -> Batch:
        """Return images [B, C, H, W] float32 and class ids [B]."""
        pixels, look = self._source.batch(items), self._look
        if seeds is not None and (look.shift or look.flip):
            planes = augment.augment(pixels, seeds, shift=look.shift, flip=look.flip)
        else:
            planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        inputs = torch.from_numpy(planes).float().mul_(self._scale).add_(self._offset)
        return Batch(inputs, torch.from_numpy(self._source.labels(items)))

    def expect(self, items: order.Ints) -> None:
        """Begin to decode images."""
        self._source.expect(items)


class ArrayFeed:
    """Arrays (inputs [N, ...], targets [N, ...]) of a user's ``input_fn``; bytes become 0 .. 1."""

    def __init__(self, inputs: Any, targets: Any) -> None:
        self._inputs = _tensor(inputs)
        self._targets = _widened(_tensor(targets))
        self._are_ready = _scaled(self._inputs[:0]).dtype == self._inputs.dtype
        if len(self._inputs) != len(self._targets):
            raise failures.BadInput(
                f"input_fn returned {len(self._inputs)} inputs and {len(self._targets)} targets; "
                "expected one target per input"
            )

    def __len__(self) -> int:
        return len(self._inputs)

    def take(self, items: order.Ints, seeds: order.Ints | None) -> Batch:
        """Return the samples as they are."""
        del seeds
        index = torch.from_numpy(items)
        inputs = self._inputs.index_select(0, index)
        targets = self._targets.index_select(0, index)
        return Batch(inputs if self._are_ready else _scaled(inputs), targets)

    def expect(self, items: order.Ints) -> None:
        """Do nothing: arrays are ready."""


class DatasetFeed:
    """A map-style torch Dataset of a user's ``input_fn``.

    Its random changes come out alike on any number of workers and after a restart: before each
    training sample the generators of Python, NumPy and torch are seeded with the sample's seed.
    """

    def __init__(self, dataset: torch_data.Dataset[Any]) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)  # type: ignore[arg-type]

    def take(self, items: order.Ints, seeds: order.Ints | None) -> Batch:
        """Return the samples, stacked."""
        pairs = []
        for place, item in enumerate(items.tolist()):
            if seeds is not None:
                seeding.seed_all(int(seeds[place]))
            pairs.append(self._dataset[item])
        inputs = torch.stack([_tensor(pair[0]) for pair in pairs])
        targets = torch.stack([_tensor(pair[1]) for pair in pairs])
        return Batch(_scaled(inputs), _widened(targets))

    def expect(self, items: order.Ints) -> None:
        """Do nothing: the user's code runs when its samples are taken."""


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
