"""Waiting for a resource to reach a phase: poll, tell, give up in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

FIRST_S: Final = 0.1
LONGEST_S: Final = 1.0

T = TypeVar("T")


async def until(
    load: Callable[[], Awaitable[T]],
    done: Callable[[T], bool],
    *,
    what: str,
    timeout_s: float | None = None,
    on_poll: Callable[[T], None] | None = None,
) -> T:
    """Return the first loaded value for which ``done`` holds.

    Args:
        load: Reads the current state; its errors end the wait.
        done: Whether to stop.
        what: For the message.
        timeout_s: None = as long as it takes.
        on_poll: Called with every loaded value.

    Raises:
        TimeoutError: It took longer than ``timeout_s``.
    """
    begun_s, wait_s = time.monotonic(), FIRST_S
    while True:
        found = await load()
        if on_poll is not None:
            on_poll(found)
        if done(found):
            return found
        if timeout_s is not None and time.monotonic() - begun_s + wait_s > timeout_s:
            raise TimeoutError(f"{what} was not done after {timeout_s:g} s.")
        await asyncio.sleep(wait_s)
        wait_s = min(LONGEST_S, wait_s * 1.3)
