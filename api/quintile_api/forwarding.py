"""Passes the labeling service's paths on to it, so that browsers and clients know one origin.

Pure ASGI: bodies stream in both directions, long requests stay open, and a client that leaves
ends the request upstream. The labeling service guards its routes by itself.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Final

import anyio
import httpx

from quintile.adapters import http_guard, problem_json
from quintile.core import errors, origin

TIMEOUT: Final = httpx.Timeout(120.0, connect=3.0)
LIMITS: Final = httpx.Limits(max_connections=1000, max_keepalive_connections=40)
_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
    }
)


class Forwarder:
    """Serves the API's application, and forwards what belongs to the labeling service.

    Args:
        app: The API.
        labeling_url: Base URL of the labeling service.
        transport: Replaces the network, for tests.
    """

    def __init__(
        self,
        app: http_guard.App,
        labeling_url: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._app = app
        self._url = labeling_url.rstrip("/")
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT,
            limits=LIMITS,
            trust_env=False,
            transport=transport or httpx.AsyncHTTPTransport(retries=1, limits=LIMITS),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __call__(
        self, scope: http_guard.Scope, receive: http_guard.Receive, send: http_guard.Send
    ) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not origin.is_labeling(scope["path"]):
            await self._app(scope, receive, send)
            return
        scope["quintile.route"] = "labeling"
        exchange = _Exchange(receive, send)
        try:
            await self._forward(scope, exchange)
        except httpx.HTTPError as error:
            if exchange.answered:
                # The status is out already: the broken connection says that the rest is missing.
                raise
            away = errors.Unavailable(
                f"The labeling service does not answer: {type(error).__name__}.",
                hint="Try again; answers that were acknowledged are stored.",
                retry_after_s=2.0,
            )
            refusal = problem_json.response(away, trace_id=secrets.token_hex(8))
            await refusal(scope, receive, send)

    async def _forward(self, scope: http_guard.Scope, exchange: _Exchange) -> None:
        path = scope.get("raw_path") or scope["path"].encode()
        query = scope.get("query_string", b"")
        target = f"{self._url}{path.decode('latin-1')}"
        if query:
            target += f"?{query.decode('latin-1')}"
        names = {name.lower() for name, _ in scope["headers"]}
        has_body = b"content-length" in names or b"transfer-encoding" in names
        request = self._client.build_request(
            scope["method"],
            target,
            headers=[pair for pair in scope["headers"] if pair[0].lower() not in _HOP],
            content=exchange.body() if has_body else None,
        )
        if not has_body:
            exchange.complete = True
        failure: httpx.HTTPError | None = None
        async with anyio.create_task_group() as group:

            async def give_up() -> None:
                await exchange.left()
                group.cancel_scope.cancel()

            async def pass_on() -> None:
                answer = await self._client.send(request, stream=True)
                async with contextlib.aclosing(answer):
                    await exchange.answer(answer)
                group.cancel_scope.cancel()

            group.start_soon(give_up)
            try:
                await pass_on()
            except httpx.HTTPError as error:
                # Raised below: a task group would wrap it.
                failure = error
                group.cancel_scope.cancel()
        if failure is not None:
            raise failure


class _Exchange:
    """One request and its answer, piece by piece."""

    def __init__(self, receive: http_guard.Receive, send: http_guard.Send) -> None:
        self._receive = receive
        self._send = send
        self._read = anyio.Event()
        self.complete = False
        self.answered = False

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the request's body as it comes."""
        while not self.complete:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise httpx.ReadError("the client left")
            self.complete = not message.get("more_body", False)
            if message.get("body"):
                yield message["body"]
        self._read.set()

    async def left(self) -> None:
        """Return when the client left; its request was read before."""
        if not self.complete:
            await self._read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def answer(self, found: httpx.Response) -> None:
        """Pass the answer on as it comes."""
        headers = [pair for pair in found.headers.raw if pair[0].lower() not in _HOP]
        self.answered = True
        await self._send(
            {"type": "http.response.start", "status": found.status_code, "headers": headers}
        )
        async for piece in found.aiter_raw():
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
