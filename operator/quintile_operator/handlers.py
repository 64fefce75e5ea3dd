"""The driver of a cluster: kopf lists and watches our kinds; every event marks a key, no more.

kopf runs in a thread and an event loop of its own. It never writes: no handlers but raw
``on.event``, no posting, no peering, no finalizers. A watch that closes is normal and is opened
again; what was missed meanwhile, the listing that follows tells.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import kopf

from quintile.core import crd, errors, meta
from quintile_operator import sources

SERVER_S: Final = 300
CONNECT_S: Final = 10
REQUEST_S: Final = 30
CLOSING_S: Final = 0.25
BACKOFFS_S: Final = (1, 2, 5, 10, 20)


class KopfSource:
    """A source of marks for ``loop.Loop``. Runs in the process that holds the Lease only.

    Args:
        namespaces: What to watch; empty: the whole cluster.
        kinds: Kinds of ours.
        seen: Told about every event: its type (``LISTED`` for what a listing tells) and document;
            returns whether the resource itself wants a look for it. Its owners always do.
    """

    name = "operator-kopf"

    def __init__(
        self,
        namespaces: Sequence[str],
        kinds: Sequence[str],
        *,
        seen: Callable[[str, meta.Document], bool],
    ) -> None:
        self._namespaces = tuple(namespaces)
        self._kinds = tuple(kinds)
        self._seen = seen

    def follow(self, marks: sources.Marks, stopped: threading.Event) -> None:
        """Run kopf until ``stopped``.

        Raises:
            Unavailable: kopf ended by itself.
        """
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry, id="login")(kopf.login_via_client)
        for kind in crd.KINDS:
            if kind.model.__name__ in self._kinds:
                self._listen(registry, kind, marks)
        try:
            asyncio.run(self._operate(registry, stopped))
        except Exception as error:  # kopf ends with errors of its own, of aiohttp and of asyncio
            raise errors.Unavailable(f"The watch of our kinds failed: {error!r}.") from error
        if not stopped.is_set():
            raise errors.Unavailable("The watch of our kinds ended by itself.")

    async def _operate(self, registry: kopf.OperatorRegistry, stopped: threading.Event) -> None:
        await kopf.operator(
            registry=registry,
            settings=settings(),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=stopped,
        )
        # Its connections close in the turns of the loop that follow.
        await asyncio.sleep(CLOSING_S)

    def _listen(
        self, registry: kopf.OperatorRegistry, kind: crd.Kind, marks: sources.Marks
    ) -> None:
        version = meta.API_VERSION.partition("/")[2]
        name = kind.model.__name__

        async def mark(event: Mapping[str, Any], **_of_kopf: Any) -> None:
            document = {**event["object"], "kind": name}
            is_news = self._seen(event["type"] or "LISTED", document)
            own, *owners = sources.touched(document)
            for key in (own, *owners) if is_news else owners:
                marks.mark(key)

        kopf.on.event(meta.GROUP, version, kind.plural, registry=registry, id=kind.plural)(mark)


class _NothingKept(kopf.DiffBaseStorage):
    """Compares no resource with what it was: kopf copies it whole for that, at each event."""

    def build(self, **_of_kopf: Any) -> Any:
        """Return what to compare: nothing. ``on.event`` hears of every event all the same."""
        return {}

    def fetch(self, **_of_kopf: Any) -> None:
        """Return what was handled before: nothing is known."""

    def store(self, **_of_kopf: Any) -> None:
        """Keep nothing: only handlers of changes, of which there are none, would have it kept."""


def settings() -> kopf.OperatorSettings:
    """Return how kopf behaves: it watches, and nothing else."""
    chosen = kopf.OperatorSettings()
    # Scanning needs rights in the whole cluster, and waits forever without them.
    chosen.scanning.disabled = True
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.watching.server_timeout = SERVER_S
    chosen.watching.client_timeout = SERVER_S + CONNECT_S
    chosen.watching.connect_timeout = CONNECT_S
    chosen.watching.reconnect_backoff = 1.0
    chosen.networking.connect_timeout = CONNECT_S
    chosen.networking.request_timeout = REQUEST_S
    chosen.networking.error_backoffs = BACKOFFS_S
    chosen.networking.enforce_retry_after = True
    chosen.persistence.diffbase_storage = _NothingKept()
    return chosen


def quieten() -> None:
    """Let kopf log what an administrator must see alone: each event is a line otherwise."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("kopf.objects").setLevel(logging.ERROR)
    # A line for every request for facts.
    logging.getLogger("httpx").setLevel(logging.WARNING)
