"""Mode ``single``: one rank, nothing to agree on."""

from __future__ import annotations

import contextlib

import torch
from torch import nn


class Single:
    """The only rank."""

    rank = 0
    world_size = 1

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return the model itself."""
        return model

    def sync(self, wrapped: nn.Module, *, last: bool) -> contextlib.AbstractContextManager[object]:
        """Return a context that does nothing."""
        del wrapped, last
        return contextlib.nullcontext()

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values."""
        return values

    def highest(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values."""
        return values

    def close(self) -> None:
        """Do nothing."""
