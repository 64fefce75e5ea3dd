"""What the training loop asks of a mode."""

from __future__ import annotations

import contextlib
from typing import Protocol

import torch
from torch import nn


class Mode(Protocol):
    """Ranks that train one model together. Every method is called by all ranks in one order.

    Every method raises ``PeerLost`` when another rank left.
    """

    rank: int
    world_size: int

    def prepare(self, model: nn.Module) -> None:
        """Make this model the one to train; all ranks then hold the weights of rank 0."""
        ...

    def sync(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context for one backward pass; the last one of a step leaves sums of all ranks.

        Gradients of the passes before are added up in each rank alone.
        """
        ...

    def align(self, model: nn.Module) -> None:
        """Let all ranks have the running statistics of rank 0."""
        ...

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of ``values`` over the ranks."""
        ...

    def highest(self, values: torch.Tensor) -> torch.Tensor:
        """Return the element-wise maximum over the ranks."""
        ...

    def close(self) -> None:
        """Leave in good order: waits until every rank is here."""
        ...
