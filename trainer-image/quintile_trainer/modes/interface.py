"""What the training loop asks of a mode."""

from __future__ import annotations

import contextlib
from typing import Protocol

import torch
from torch import nn


class Mode(Protocol):
    """Ranks that train one model together. Every method is called by all ranks in one order."""

    rank: int
    world_size: int

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return the module to call in training; all ranks then hold the weights of rank 0."""
        ...

    def sync(self, wrapped: nn.Module, *, last: bool) -> contextlib.AbstractContextManager[object]:
        """Return a context manager for one backward; gradients are averaged only in the last."""
        ...

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of ``values`` over the ranks.

        Raises:
            PeerLost: Another rank left.
        """
        ...

    def highest(self, values: torch.Tensor) -> torch.Tensor:
        """Return the element-wise maximum over the ranks. Raises as ``total``."""
        ...

    def close(self) -> None:
        """Leave in good order: waits until every rank is here."""
        ...
