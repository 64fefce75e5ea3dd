"""Fewer bytes for a reduction: Horovod's ``Compression``."""

from __future__ import annotations

from typing import Protocol

import torch

__all__ = ["Compression", "Compressor", "FP16Compressor", "NoneCompressor"]


class Compressor(Protocol):
    """Makes a tensor smaller before it is reduced, and large again."""

    @staticmethod
    def compress(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.dtype | None]:
        """Return the smaller tensor and what ``decompress`` must know."""
        ...

    @staticmethod
    def decompress(tensor: torch.Tensor, ctx: torch.dtype | None) -> torch.Tensor:
        """Return a tensor of the first type."""
        ...


class NoneCompressor:
    """Leaves tensors as they are."""

    @staticmethod
    def compress(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.dtype | None]:
        """Return the tensor."""
        return tensor, None

    @staticmethod
    def decompress(tensor: torch.Tensor, ctx: torch.dtype | None) -> torch.Tensor:
        """Return the tensor."""
        del ctx
        return tensor


class FP16Compressor:
    """Sends floats as 16-bit floats."""

    @staticmethod
    def compress(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.dtype | None]:
        """Return a float tensor in 16 bits; others as they are."""
        small = tensor.to(torch.float16) if tensor.dtype.is_floating_point else tensor
        return small, tensor.dtype

    @staticmethod
    def decompress(tensor: torch.Tensor, ctx: torch.dtype | None) -> torch.Tensor:
        """Return the tensor in its first type."""
        return tensor.to(ctx) if ctx is not None and ctx.is_floating_point else tensor


class Compression:
    """The ways to compress, as ``hvd.Compression.fp16``."""

    none = NoneCompressor
    fp16 = FP16Compressor
