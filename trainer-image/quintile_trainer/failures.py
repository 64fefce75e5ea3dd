"""Why a rank ends, as exceptions of our own; ``main`` turns them into exit codes and last words."""

from __future__ import annotations

import errno
import re
from typing import ClassVar

from quintile_trainer import exit_codes


class RankFailure(Exception):
    """A rank cannot go on; the message is for people."""

    code: ClassVar[int] = exit_codes.USER_ERROR
    reason: ClassVar[str] = "UserError"


class BadInput(RankFailure):
    """Hyperparameters, data or functions of the user are not as they must be."""

    reason = "InvalidSpec"


class Diverged(RankFailure):
    """The loss is no longer a finite number."""

    reason = "Diverged"


class DiskFull(RankFailure):
    """Something that must be kept does not fit on the disk."""

    code = exit_codes.DISK_FULL
    reason = "DiskFull"


class Yielded(RankFailure):
    """The rank was asked to leave and has saved its state."""

    code = exit_codes.YIELDED
    reason = "Preempted"


class PeerLost(RankFailure):
    """Another rank left; this one is fine."""

    code = exit_codes.PEER_LOST
    reason = "PeerLost"


class Broken(RankFailure):
    """Something of the platform is not as it must be."""

    code = exit_codes.INTERNAL
    reason = "Internal"


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PEER_WORDS = re.compile(
    r"gloo|connection (closed|reset|refused)|broken pipe|socket timeout|"
    r"store.*(timeout|timed out)|timed out (initializing|waiting)|EADDRINUSE|"
    r"address already in use|remote process exited|horovod has been shut down",
    re.IGNORECASE,
)


def classify(error: BaseException, *, world_size: int) -> tuple[int, str]:
    """Return exit code and reason for what ended a rank of so many."""
    if isinstance(error, RankFailure):
        return error.code, error.reason
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return exit_codes.OUT_OF_MEMORY, "OutOfMemory"
    if is_full(error):
        return exit_codes.DISK_FULL, "DiskFull"
    kind = type(error)
    from_torch = kind.__module__.startswith(("torch", "horovod")) or kind is RuntimeError
    if world_size > 1 and from_torch and is_peer(error):
        return exit_codes.PEER_LOST, "PeerLost"
    return exit_codes.USER_ERROR, "UserError"


def is_full(error: BaseException) -> bool:
    """Return whether an error says that a disk or a quota is used up."""
    return isinstance(error, OSError) and error.errno in _FULL


def is_peer(error: BaseException) -> bool:
    """Return whether an error of a collective says that another rank left."""
    return bool(_PEER_WORDS.search(str(error)))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def sentence(error: BaseException) -> str:
    """Return one line: our own words, or the exception as Python prints it, cut to one line."""
    text = str(error).strip().splitlines()
    if isinstance(error, RankFailure) and text:
        return text[0]
    name = _full_name(type(error))
    return f"{name}: {text[0]}" if text else name


def _full_name(kind: type[BaseException]) -> str:
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"
