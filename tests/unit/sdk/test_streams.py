"""Live logs: events are parsed, and a broken stream goes on where it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from quintile.sdk import run_calls, sse
from quintile.sdk.client import AsyncClient


async def lines_of(text: str) -> AsyncIterator[str]:
    for line in text.split("\n"):
        yield line


async def collect(text: str) -> list[sse.Event]:
    return [event async for event in sse.events(lines_of(text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: a\n\n", [sse.Event("message", "a")]),
        ("id: 1.0\ndata: a\n\nid: 1.1\ndata: b\n\n", [("a", "1.0"), ("b", "1.1")]),
        ("data: a\ndata: b\n\n", [sse.Event("message", "a\nb")]),
        (": still here\n\ndata: a\n\n", [sse.Event("message", "a")]),
        ("event: end\ndata: {}\n\n", [sse.Event("end", "{}")]),
        ("event: end\n\n", []),
        ("data:a\n\n", [sse.Event("message", "a")]),
        ("data: cut off", []),
    ],
)
def test_events(text: str, expected: list[object]) -> None:
    found = asyncio.run(collect(text))
    shown = [(one.data, one.id) if isinstance(expected[0], tuple) else one for one in found]
    assert shown == expected


class Breaking(httpx.AsyncByteStream):
    """A body that ends in the middle of the connection."""

    def __init__(self, text: str, *, breaks: bool) -> None:
        self._text = text
        self._breaks = breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._text.encode()
        if self._breaks:
            raise httpx.ReadError("reset")


def event(place: str, line: str) -> str:
    return f"id: {place}\ndata: {json.dumps({'id': place, 'rank': 0, 'line': line})}\n\n"


def test_a_broken_stream_goes_on_after_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_calls, "RECONNECT_S", 0.0)
    bodies = [
        Breaking(event("1.0", "one") + event("1.1", "two"), breaks=True),
        Breaking(event("2.0", "three"), breaks=False),
        Breaking(event("2.1", "four") + "event: end\ndata: {}\n\n", breaks=False),
    ]
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Last-Event-ID"))
        return httpx.Response(200, stream=bodies.pop(0))

    async def follow() -> list[str]:
        transport = httpx.MockTransport(answer)
        async with AsyncClient("http://localhost", transport=transport) as client:
            return [line.line async for line in client.trials.follow("default", "t0")]

    assert asyncio.run(follow()) == ["one", "two", "three", "four"]
    assert seen == [None, "1.1", "2.0"]
