"""A transport that remembers which answers a labeling job acknowledged, for end-to-end tests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import httpx

ANSWERS_PATH = "/annotations"


@dataclass(frozen=True)
class Acknowledged:
    """One answer that the server said it has."""

    item_id: str
    label: int
    outcome: str


@dataclass
class Recorder(httpx.AsyncBaseTransport):
    """Sends requests over HTTP; ``answers`` holds what was acknowledged, by client id."""

    answers: dict[str, Acknowledged] = field(default_factory=dict)
    inner: httpx.AsyncHTTPTransport = field(default_factory=httpx.AsyncHTTPTransport)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        response = await self.inner.handle_async_request(request)
        if request.url.path.endswith(ANSWERS_PATH) and response.is_success:
            await response.aread()
            self._note(json.loads(request.content), response.json())
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self.inner.aclose()

    def _note(self, sent: dict[str, list[dict[str, object]]], answer: object) -> None:
        assert isinstance(answer, dict)
        for one, result in zip(sent["answers"], answer["results"], strict=True):
            payload = one["payload"]
            assert isinstance(payload, dict)
            known = self.answers.get(str(one["client_id"]))
            outcome = str(result["outcome"]) if known is None else known.outcome
            self.answers[str(one["client_id"])] = Acknowledged(
                item_id=str(one["item_id"]), label=int(payload["labels"][0]), outcome=outcome
            )
