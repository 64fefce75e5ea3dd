"""Sums in rank order: ``((t0 + t1) + t2) + ...``, bit for bit what a serial program computes.

Sixteen-bit floats are added in 32 bits and rounded once.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import torch

DTYPES: Final = (
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
)
_SHORT: Final = (torch.bfloat16, torch.float16)


class Operation(enum.IntEnum):
    """How values of several ranks become one."""

    SUM = 0
    MEAN = 1
    HIGHEST = 2


def takes(values: torch.Tensor) -> bool:
    """Return whether a tensor can go through shared memory: numbers, of this processor."""
    return values.device.type == "cpu" and values.dtype in DTYPES


class Adder:
    """Combines pieces; keeps its working memory from one to the next."""

    def __init__(self) -> None:
        self._kept: dict[tuple[torch.dtype, int], torch.Tensor] = {}

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, own: int, operation: Operation
    ) -> None:
        """Write the result over all ranks' inputs into ``out``, which may be ``inputs[own]``.

        Args:
            inputs: One per rank, in rank order, of one length and type; two or more.
            out: Of the same length and type.
            own: The input that ``out`` may overwrite.
            operation: What to compute.
        """
        if operation is Operation.HIGHEST:
            total = self._target(out, own)
            torch.maximum(inputs[0], inputs[1], out=total)
            for value in inputs[2:]:
                torch.maximum(total, value, out=total)
        elif out.dtype in _SHORT:
            total = self._scratch(torch.float32, 0, out.numel())
            wide = self._scratch(torch.float32, 1, out.numel())
            total.copy_(inputs[0])
            for value in inputs[1:]:
                total.add_(wide.copy_(value))
        else:
            total = self._target(out, own)
            torch.add(inputs[0], inputs[1], out=total)
            for value in inputs[2:]:
                total.add_(value)
        if operation is Operation.MEAN:
            total.div_(len(inputs))
        if total is not out:
            out.copy_(total)

    def _target(self, out: torch.Tensor, own: int) -> torch.Tensor:
        # The first two inputs are read before anything is written.
        return out if own < 2 else self._scratch(out.dtype, 0, out.numel())

    def _scratch(self, dtype: torch.dtype, number: int, elements: int) -> torch.Tensor:
        kept = self._kept.get((dtype, number))
        if kept is None or kept.numel() < elements:
            kept = self._kept[(dtype, number)] = torch.empty(elements, dtype=dtype)
        return kept[:elements]
