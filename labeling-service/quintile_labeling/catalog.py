"""What the service needs of the rest of the platform: datasets, a place for results, identities.

``Catalog`` and ``Identities`` are what the service calls; both are blocking. ``ClientCatalog``
is both, over the SDK's client: HTTP in a cluster, the API in process when embedded.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from quintile import ports
from quintile.core import datasets, errors, identity
from quintile.sdk import client as sdk_client

ResultT = TypeVar("ResultT")
CALL_S = 600.0


class Catalog(Protocol):
    """Dataset versions: read the input, create the output."""

    def version(self, project: str, dataset: str, version: int) -> datasets.VersionView:
        """Return one version.

        Raises:
            NotFound: There is none.
            Unavailable: The API is away.
        """
        ...

    def items(self, project: str, dataset: str, version: int) -> Iterator[datasets.ItemView]:
        """Yield all items of a version, in any order.

        Raises:
            NotFound, Unavailable: As above; also midway.
        """
        ...

    def create_version(
        self,
        project: str,
        dataset: str,
        wanted: datasets.VersionCreate,
        rows: Sequence[datasets.LabelRow],
    ) -> datasets.VersionView:
        """Create a version with a label table. Idempotent by ``wanted.idempotency_key``.

        Raises:
            InvalidSpec, Conflict: The version can never be made like this.
            Unavailable: Try again.
        """
        ...


class Identities(Protocol):
    """Who holds these credentials."""

    def identity(self, *, authorization: str, cookie: str) -> identity.Identity:
        """Return the caller of a request.

        Args:
            authorization: Value of its Authorization header, empty if none.
            cookie: Value of its session cookie, empty if none.

        Raises:
            Unauthorized: Nobody the API knows.
            Unavailable: The API is away.
        """
        ...


class ClientCatalog:
    """``Catalog`` and ``Identities`` over ``quintile.sdk``, with an event loop of its own.

    The loop runs in one daemon thread, because the in-process transport is asynchronous only.
    """

    def __init__(self, client: sdk_client.AsyncClient) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="quintile-labeling-catalog", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the loop; the client is closed first. Idempotent."""
        if self._loop.is_closed():
            return
        self._call(self._client.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def version(self, project: str, dataset: str, version: int) -> datasets.VersionView:
        """Return one version."""
        return self._call(self._client.dataset_version(project, dataset, version))

    def items(self, project: str, dataset: str, version: int) -> Iterator[datasets.ItemView]:
        """Yield all items of a version."""
        yield from self._call(self._gather(project, dataset, version))

    def create_version(
        self,
        project: str,
        dataset: str,
        wanted: datasets.VersionCreate,
        rows: Sequence[datasets.LabelRow],
    ) -> datasets.VersionView:
        """Create a version with a label table."""
        return self._call(self._client.create_version(project, dataset, wanted, rows))

    def identity(self, *, authorization: str, cookie: str) -> identity.Identity:
        """Return the caller of a request."""
        return self._call(self._client.identity(authorization=authorization, cookie=cookie))

    async def _gather(self, project: str, dataset: str, version: int) -> list[datasets.ItemView]:
        found = self._client.version_items(project, dataset, version)
        return [item async for item in found]

    def _call(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_S)


class CachedIdentities:
    """Remembers answers for a few seconds, so that each task does not ask the API again.

    Keys are hashes: no credential stays in memory longer than its request.
    """

    def __init__(self, source: Identities, clock: ports.Clock, *, keep_s: float = 5.0) -> None:
        self._source = source
        self._clock = clock
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, identity.Identity]] = {}

    def identity(self, *, authorization: str, cookie: str) -> identity.Identity:
        """Return the caller; as the source says, at most ``keep_s`` seconds old."""
        if not authorization and not cookie:
            raise errors.Unauthorized(
                "This needs a sign-in.",
                hint="Open the link that `quintile up` printed, or send Authorization: Bearer.",
            )
        key = hashlib.sha256(f"{authorization}\0{cookie}".encode()).hexdigest()
        now_s = self._clock.now()
        with self._lock:
            known = self._known.get(key)
        if known is not None and known[0] > now_s:
            return known[1]
        found = self._source.identity(authorization=authorization, cookie=cookie)
        with self._lock:
            self._known = {old: kept for old, kept in self._known.items() if kept[0] > now_s}
            self._known[key] = (now_s + self._keep_s, found)
        return found
