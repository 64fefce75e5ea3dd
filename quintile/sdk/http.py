"""One HTTP request to Quintile: credentials, repeats, problem+json, pages, streams.

Used by the call groups of ``quintile.sdk.client``; nothing else talks HTTP in the SDK.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeVar

import httpx
import pydantic

from quintile.core import errors, problems
from quintile.sdk import retrying

PREFIX: Final = "/api/v1"
PAGE_LIMIT: Final = 500
MISSING: Final = object()
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

Repeat = Literal["safe", "keyed", "never"]
ModelT = TypeVar("ModelT", bound=pydantic.BaseModel)


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        method: GET, PUT, ...
        path: Below ``/api/v1``, beginning with a slash; segments are quoted already.
        params: Query; None values are left out.
        json: Body as JSON, or MISSING.
        content: Body as bytes.
        headers: Further headers.
        repeat: ``safe`` = a second send changes nothing more; ``keyed`` = safe by an
            Idempotency-Key, which is added; ``never`` = sent again only if it cannot have arrived.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = MISSING
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeat: Repeat = "safe"


class Broken(errors.Unavailable):
    """The connection broke in the middle of a stream; what came before is good."""


class Http:
    """Sends calls; one per client. Belongs to the event loop of its first request.

    Args:
        client: With base URL and credentials; closed by ``aclose``.
        patience: Limits of retries.
        sleep: Waits between tries.
        now: Monotonic seconds.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        patience: retrying.Patience,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._patience = patience
        self._sleep = sleep
        self._now = now
        self._reached = False

    @property
    def base_url(self) -> str:
        """Return the address of the server, without a slash at the end."""
        return str(self._client.base_url).rstrip("/")

    async def send(self, call: Call) -> httpx.Response:
        """Return the successful answer, with its body read.

        Raises:
            QuintileError: What the server said, or Unavailable when it does not answer.
        """
        request = self._keyed(call)

        async def attempt() -> httpx.Response:
            response = await self._client.send(self._build(request))
            return self._checked(response)

        return await self._again(request, attempt)

    @contextlib.asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[httpx.Response]:
        """Yield the successful answer with its body unread.

        Raises:
            QuintileError: As ``send``; Broken when the connection breaks while reading.
        """

        async def attempt() -> httpx.Response:
            response = await self._client.send(self._build(call), stream=True)
            if not response.is_success:
                await response.aread()
            return self._checked(response)

        response = await self._again(call, attempt)
        try:
            yield response
        except httpx.TransportError as error:
            raise Broken(f"{self.base_url} broke off its answer to {call.path}.") from error
        finally:
            await response.aclose()

    async def json(self, call: Call) -> Any:
        """Return the JSON of the answer; None when it has no body."""
        response = await self.send(call)
        return self._parsed(response.content, call) if response.content else None

    async def model(self, call: Call, kind: type[ModelT]) -> ModelT:
        """Return the answer as a model; fields of a newer server are ignored."""
        return read_as(kind, await self.json(call), what=call.path)

    async def pages(self, call: Call, kind: type[ModelT]) -> AsyncIterator[ModelT]:
        """Yield the items of a list, page after page."""
        cursor: str | None = ""
        while cursor is not None:
            query = {"limit": PAGE_LIMIT, **call.params}
            if cursor:
                query["cursor"] = cursor
            page = await self.json(replace(call, params=query))
            for item in page["items"]:
                yield read_as(kind, item, what=call.path)
            cursor = page.get("next_cursor") or page.get("next")

    async def lines(self, call: Call, kind: type[ModelT]) -> AsyncIterator[ModelT]:
        """Yield the lines of an NDJSON answer."""
        async with self.stream(call) as response:
            async for line in response.aiter_lines():
                if line.strip():
                    yield read_as(kind, self._parsed(line, call), what=call.path)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _keyed(self, call: Call) -> Call:
        if call.repeat != "keyed":
            return call
        return replace(call, headers={"Idempotency-Key": uuid.uuid4().hex, **call.headers})

    def _build(self, call: Call) -> httpx.Request:
        return self._client.build_request(
            call.method,
            f"{PREFIX}{call.path}",
            params={name: value for name, value in call.params.items() if value is not None},
            headers=dict(call.headers),
            content=call.content,
            **({} if call.json is MISSING else {"json": call.json}),
        )

    def _checked(self, response: httpx.Response) -> httpx.Response:
        self._reached = True
        if response.is_success:
            return response
        raise problems.to_error(response.status_code, response.content, response.headers)

    async def _again(
        self, call: Call, attempt: Callable[[], Awaitable[httpx.Response]]
    ) -> httpx.Response:
        begun_s = self._now()
        for number in itertools.count():
            try:
                return await attempt()
            except httpx.TransportError as error:
                failure = self._unreachable(error)
                if call.repeat == "never" and not isinstance(error, _NOT_SENT):
                    raise failure from error
                at_least_s = 0.0
            except errors.Unavailable as error:
                failure, at_least_s = error, error.retry_after_s
            wait_s = self._patience.delay_s(number, jitter=random.random(), at_least_s=at_least_s)
            left_s = self._patience.limit_s(reached=self._reached) - (self._now() - begun_s)
            if wait_s > left_s:
                raise failure
            await self._sleep(wait_s)
        raise AssertionError("unreachable")

    def _unreachable(self, error: httpx.TransportError) -> errors.Unavailable:
        words = str(error) or type(error).__name__
        return errors.Unavailable(
            f"Quintile at {self.base_url} does not answer: {words}.",
            hint="Start it with `quintile up`, or set QUINTILE_URL to its address.",
        )

    def _parsed(self, text: bytes | str, call: Call) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise _foreign(self.base_url, call.path) from error


def read_as(kind: type[ModelT], value: object, *, what: str) -> ModelT:
    """Return ``value`` as a model.

    Raises:
        Unavailable: It does not fit: this is no Quintile, or one of another release.
    """
    try:
        return kind.model_validate(value, extra="ignore")
    except pydantic.ValidationError as error:
        raise _foreign("the server", what) from error


def _foreign(server: str, what: str) -> errors.QuintileError:
    return errors.QuintileError(
        f"The answer of {server} to {what} is not one that this release understands.",
        hint="Check that QUINTILE_URL names a Quintile server of the same release.",
    )
