"""The background loop of the SDK ends with nothing left running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from quintile.sdk import loop


def test_what_still_runs_is_cancelled_and_half_read_is_closed() -> None:
    ended: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            ended.append("iterator")

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    async def begin(half_read: list[AsyncIterator[int]]) -> asyncio.Task[None]:
        half_read.append(numbers())
        await anext(half_read[0])
        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        return task

    background = loop.BackgroundLoop()
    kept: list[AsyncIterator[int]] = []
    task = background.run(begin(kept))
    background.stop()
    assert task.cancelled()
    assert sorted(ended) == ["iterator", "task"]


def test_a_stopped_loop_starts_again() -> None:
    async def answer() -> int:
        return 7

    background = loop.BackgroundLoop()
    background.stop()
    assert background.run(answer()) == 7
    background.stop()
    assert background.run(answer()) == 7
    background.stop()
