"""Which ranks are alive: each holds a lock on its byte of the shared file, and it dies with it.

A POSIX lock belongs to a process: children of a rank do not inherit it, so they cannot make a dead
rank look alive, and it needs no common process numbers as signals would.
"""

from __future__ import annotations

import fcntl
import os
import struct

# struct flock of 64-bit Linux: type, whence, start, length, pid.
_FLOCK = struct.Struct("hh4xqqi4x")


def hold(descriptor: int, rank: int) -> None:
    """Lock the byte of a rank for the life of this process.

    Raises:
        OSError: Another process holds it.
    """
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)


def is_alive(descriptor: int, rank: int) -> bool:
    """Return whether another process holds the byte of a rank."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, rank, 1, 0)
    found = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return bool(found[0] != fcntl.F_UNLCK)
