"""Mode ``single``: one rank, nothing to agree on."""

from __future__ import annotations

import contextlib

import torch
from torch import nn


class Single:
    """The only rank."""

    rank = 0
    world_size = 1

    def prepare(self, model: nn.Module) -> None:
        """Do nothing: the weights are rank 0's."""

    def sync(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context that does nothing: one rank's gradients are the sum."""
        del last
        return contextlib.nullcontext()

    def align(self, model: nn.Module) -> None:
        """Do nothing: the statistics are rank 0's."""

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values."""
        return values

    def highest(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values."""
        return values

    def close(self) -> None:
        """Do nothing."""
