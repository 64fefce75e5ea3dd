"""The memory itself: made by rank 0, never named, gone with the last process that has it."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import sys
from pathlib import Path

import torch

from quintile_trainer import memory
from quintile_trainer.shm import layout as layout_module
from quintile_trainer.shm import problems

_NO_EXEC_SEAL = 0x8
_VIEWS = 4096
"""Tensors kept for the next step; a model asks for the same ones in every step."""
_HINT = "use fewer banks or smaller pieces, or raise the memory limit"


class Memory:
    """A mapping and its parts. Closing is left to the garbage collector: tensors may outlive us.

    Attributes:
        words: The words before the slots; reading or writing one is a single instruction.
        address: Where the mapping begins.
        descriptor: The open file; the locks of ``liveness`` live on it.
    """

    def __init__(self, descriptor: int, layout: layout_module.Layout) -> None:
        self.layout = layout
        self.descriptor = descriptor
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        self._mapping = mmap.mmap(descriptor, layout.size_bytes, flags=flags)
        self.words = memoryview(self._mapping)[: layout.words * layout_module.WORD].cast("Q")
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._mapping))
        self._bytes = torch.frombuffer(self._mapping, dtype=torch.uint8)
        self._views: dict[tuple[torch.dtype, int, int, layout_module.Span], torch.Tensor] = {}

    def slot(
        self, dtype: torch.dtype, rank: int, bank: int, span: layout_module.Span
    ) -> torch.Tensor:
        """Return elements of a rank's slot as a tensor over the shared memory."""
        key = (dtype, rank, bank, span)
        view = self._views.get(key)
        if view is None:
            if len(self._views) >= _VIEWS:
                self._views.clear()
            first = self.layout.slot(rank, bank) + span[0] * dtype.itemsize
            size = (span[1] - span[0]) * dtype.itemsize
            view = self._views[key] = self._bytes[first : first + size].view(dtype)
        return view

    def close(self) -> None:
        """Close the file; the mapping goes when nothing uses it any more."""
        with contextlib.suppress(OSError):
            os.close(self.descriptor)


def create(layout: layout_module.Layout, folder: Path | None) -> Memory:
    """Return fresh memory with its head written.

    Raises:
        NoMemory: There is not enough; said now, not by a bus error in the middle of training.
    """
    if sys.byteorder != "little" or ctypes.sizeof(ctypes.c_void_p) != layout_module.WORD:
        raise problems.NoMemory("comm: shm needs a 64-bit little-endian processor; use comm: gloo")
    size = layout.size_bytes
    # Asked first: memory without a folder has no limit of its own, and taking it all ends others.
    free = memory.free_bytes()
    if size > free // 2:
        raise problems.NoMemory(
            f"{size} bytes of shared memory for {layout.world_size} ranks are more than half of "
            f"the {free} bytes that are free; {_HINT}"
        )
    try:
        descriptor = _anonymous() if folder is None else _unnamed(folder)
        try:
            # Takes the pages now: a file that is only long fails later, with SIGBUS.
            os.posix_fallocate(descriptor, 0, size)
            if folder is None:
                seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
            made = Memory(descriptor, layout)
        except BaseException:
            os.close(descriptor)
            raise
    except (OSError, ValueError) as error:
        where = "memory" if folder is None else str(folder)
        raise problems.NoMemory(
            f"{size} bytes of shared memory for {layout.world_size} ranks do not fit into {where} "
            f"({error}); {_HINT}"
        ) from error
    for number, word in enumerate(layout.head):
        made.words[number] = word
    return made


def attach(descriptor: int, layout: layout_module.Layout) -> Memory:
    """Return the memory that another rank made.

    Raises:
        Mismatch: It is laid out for other settings.
    """
    size = os.fstat(descriptor).st_size
    if size == layout.size_bytes:
        found = Memory(descriptor, layout)
        if tuple(found.words[: len(layout.head)]) == layout.head:
            return found
    os.close(descriptor)
    raise problems.Mismatch(
        f"the shared memory has {size} bytes and this rank expects {layout.size_bytes}: "
        "give all ranks the same shm settings"
    )


def _anonymous() -> int:
    name = "quintile-shm"
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | _NO_EXEC_SEAL)
    except OSError:  # kernels before 6.3 do not know the flag
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _unnamed(folder: Path) -> int:
    return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC | os.O_EXCL, 0o600)
