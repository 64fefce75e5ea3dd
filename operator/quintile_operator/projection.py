"""A ResourceStore that remembers what the watch told: looking at a key costs no request.

Between the reconciler and ``adapters.resource_kube``, in a cluster only. A copy may be older than
what is stored, never older than what this process wrote itself; whatever is newer, the watch tells
of and marks the key again. Kept as text: whole documents of 2,000 resources are fifty megabytes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from quintile import ports
from quintile.adapters import documents_kube
from quintile.core import errors, meta, runplan
from quintile_operator import canary


@dataclass(frozen=True, slots=True)
class _Copy:
    version: int
    generation: int
    text: str


class Projection:
    """Copies of resources by key. Thread-safe.

    Args:
        store: Holds the resources.
        watched: Told what is written and listed, so that the watch owes it.
    """

    def __init__(self, store: ports.ResourceStore, watched: canary.Canary) -> None:
        self._store = store
        self._canary = watched
        self._lock = threading.Lock()
        self._copies: dict[meta.Key, _Copy] = {}
        self._gone: dict[meta.Key, int] = {}
        self._written: dict[meta.Key, int] = {}

    def seen(self, event: str, document: meta.Document) -> bool:
        """Take over what the watch tells, as the API server has it; return whether it is news.

        No news is a status that this process wrote after it knew everything else that it holds.
        """
        self._canary.seen(document)
        key, version = meta.key_of(document), int(document["metadata"]["resourceVersion"])
        if event == "DELETED":
            self._drop(key, version)
            return True
        with self._lock:
            known = self._copies.get(key)
            is_news = version > self._written.get(key, 0)
        if known is None or known.version < version:
            self._keep(documents_kube.from_api(document, key.kind))
        return is_news

    def get(self, key: meta.Key) -> meta.Document:
        """Return a document."""
        with self._lock:
            known = self._copies.get(key)
        if known is None:
            return self._keep(self._store.get(key))
        document: meta.Document = json.loads(known.text)
        return document

    def list(self, kind: str, *, namespace: str | None = None) -> ports.Listing:
        """Return all documents of a kind, as they are stored; copies of others are forgotten."""
        with self._lock:
            known = {key: copy.version for key, copy in self._copies.items() if key.kind == kind}
            long_gone = [key for key in self._gone if key.kind == kind]
        found = self._store.list(kind, namespace=namespace)
        for document in found.items:
            self._canary.expect(document)
            known.pop(meta.key_of(self._keep(document)), None)
        for key, version in known.items():
            if namespace in (None, key.namespace):
                self._drop(key, version)
        with self._lock:
            for key in long_gone:
                self._gone.pop(key, None)
        return found

    def watch(self, kinds: Sequence[str], *, since: str, wait_s: float) -> Iterator[runplan.Change]:
        """Yield changes."""
        return self._store.watch(kinds, since=since, wait_s=wait_s)

    def apply(
        self, document: meta.Document, *, manager: str, create_only: bool = False
    ) -> meta.Document:
        """Create or replace; what nobody told of is first taken for new, which costs no reading."""
        with self._lock:
            is_new = create_only or meta.key_of(document) not in self._copies
        try:
            made = self._store.apply(document, manager=manager, create_only=is_new)
        except errors.Conflict:
            if create_only or not is_new:
                raise
            made = self._store.apply(document, manager=manager)
        self._canary.expect(made)
        return self._keep(made)

    def patch_status(self, key: meta.Key, status: meta.Document, *, uid: str) -> meta.Document:
        """Replace the status."""
        with self._lock:
            known = self._copies.get(key)
        try:
            made = self._store.patch_status(key, status, uid=uid)
        except (errors.NotFound, errors.Conflict):
            if known is not None:
                self._drop(key, known.version)
            raise
        self._canary.expect(made)
        place = made["metadata"]
        if known is not None and known.generation == place["generation"]:
            with self._lock:
                self._written[key] = int(place["resourceVersion"])
        return self._keep(made)

    def delete(self, key: meta.Key, *, uid: str = "") -> None:
        """Delete a resource."""
        self._store.delete(key, uid=uid)

    def _keep(self, document: meta.Document) -> meta.Document:
        key, place = meta.key_of(document), document["metadata"]
        copy = _Copy(int(place["resourceVersion"]), place["generation"], json.dumps(document))
        with self._lock:
            known = self._copies.get(key)
            oldest = max(self._gone.get(key, 0), known.version if known is not None else 0)
            if copy.version > oldest:
                self._copies[key] = copy
                self._gone.pop(key, None)
        return document

    def _drop(self, key: meta.Key, version: int) -> None:
        """Forget a resource that is gone since ``version``; an answer under way is older."""
        with self._lock:
            known = self._copies.get(key)
            if known is None or known.version <= version:
                self._copies.pop(key, None)
                self._written.pop(key, None)
                self._gone[key] = max(version, self._gone.get(key, 0))
