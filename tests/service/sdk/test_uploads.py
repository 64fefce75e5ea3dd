"""An upload whose answers get lost arrives once, whole."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest

from quintile.core import datasets
from quintile.sdk import importing, sources
from quintile.sdk.client import AsyncClient


class Lossy(httpx.AsyncBaseTransport):
    """Delivers every request, and loses every second answer to a piece of an upload."""

    def __init__(self) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self.pieces = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        if request.method == "PUT":
            self.pieces += 1
            if self.pieces % 2:
                await answer.aread()
                raise httpx.ReadError("the answer got lost")
        return answer

    async def aclose(self) -> None:
        await self._inner.aclose()


def test_lost_answers(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PIECE_BYTES", 65_536)
    images = np.random.default_rng(0).integers(0, 255, (40, 64, 64), np.uint8)
    lossy = Lossy()

    async def send() -> datasets.ImportView:
        async with AsyncClient(world.url, token=world.token(), transport=lossy) as client:
            await importing.ensure_dataset(client, "default", "noise")
            plan = importing.Plan(sources.arrays({"images": images}), "numpy")
            return await importing.run(client, "default", "noise", plan)

    report = asyncio.run(send())
    assert (report.imported, report.rejected_total) == (40, 0)
    assert lossy.pieces > 4
