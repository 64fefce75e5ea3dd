"""Tensor memory as bytes that sockets read and fill."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def view(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a contiguous CPU tensor; writing to them writes to the tensor."""
    # numpy knows no bfloat16; the bytes are the same.
    return tensor.detach().view(-1).view(torch.uint8).numpy().data


class Buffer:
    """One received payload: a tensor and its bytes."""

    __slots__ = ("tensor", "view")

    def __init__(self, size: int, dtype: str) -> None:
        self.tensor = torch.empty(size, dtype=DTYPES[dtype])
        self.view = view(self.tensor)


class Pool:
    """Buffers that are used again, by shape."""

    def __init__(self) -> None:
        self._free: dict[tuple[int, str], list[Buffer]] = {}

    def take(self, size: int, dtype: str) -> Buffer:
        """Return a buffer with any content."""
        free = self._free.get((size, dtype))
        return free.pop() if free else Buffer(size, dtype)

    def give(self, buffer: Buffer) -> None:
        """Take back a buffer that nobody reads any more."""
        key = (buffer.tensor.numel(), str(buffer.tensor.dtype).removeprefix("torch."))
        self._free.setdefault(key, []).append(buffer)
