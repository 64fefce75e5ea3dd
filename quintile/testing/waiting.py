"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

LookT = TypeVar("LookT")
LOOK_S = 0.005


def until(look: Callable[[], LookT], *, timeout_s: float = 60.0, look_s: float = LOOK_S) -> LookT:
    """Return what ``look`` returns as soon as it is truthy; asks every ``look_s``.

    Raises:
        TimeoutError: It was not in time; says what it was last.
    """
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise TimeoutError(f"not reached in {timeout_s} s; last: {found!r}")
        pause.wait(look_s)
