"""ResourceStore in memory."""

from __future__ import annotations

import copy
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Literal

from quintile import ports
from quintile.adapters import resource_rules
from quintile.core import conditions, errors, meta, runplan


class FakeResourceStore:
    """Documents in a dictionary; every write is a numbered change.

    Args:
        clock: Gives creation times.

    Attributes:
        writes: How many changes there were; equal before and after means that nothing was written.
    """

    def __init__(self, *, clock: ports.Clock) -> None:
        self._clock = clock
        self._documents: dict[meta.Key, meta.Document] = {}
        self._changes: list[runplan.Change] = []
        self._changed = threading.Condition(threading.RLock())

    @property
    def writes(self) -> int:
        """How many changes there were so far."""
        with self._changed:
            return len(self._changes)

    def get(self, key: meta.Key) -> meta.Document:
        """Return a copy of a document."""
        with self._changed:
            found = self._documents.get(key)
            if found is None:
                raise errors.NotFound(f"There is no {key}.")
            return copy.deepcopy(found)

    def list(self, kind: str, *, namespace: str | None = None) -> ports.Listing:
        """Return copies of all documents of a kind."""
        with self._changed:
            items = tuple(
                copy.deepcopy(document)
                for key, document in sorted(self._documents.items())
                if key.kind == kind and namespace in (None, key.namespace)
            )
            return ports.Listing(items=items, version=str(len(self._changes)))

    def watch(self, kinds: Sequence[str], *, since: str, wait_s: float) -> Iterator[runplan.Change]:
        """Yield changes after ``since``; end when none came for ``wait_s``."""
        place = int(since or 0)
        deadline = time.monotonic() + wait_s
        while True:
            with self._changed:
                fresh = [
                    change for change in self._changes[place:] if change.document["kind"] in kinds
                ]
                left = deadline - time.monotonic()
                if not fresh and (left <= 0 or not self._changed.wait(left)):
                    return
            for change in fresh:
                yield change
                place = int(change.version)
                deadline = time.monotonic() + wait_s

    def apply(
        self, document: meta.Document, *, manager: str, create_only: bool = False
    ) -> meta.Document:
        """Create or replace all but the status."""
        del manager
        wanted = resource_rules.without_status(document)
        key = meta.key_of(wanted)
        with self._changed:
            before = self._documents.get(key)
            if before is None:
                self._check_owners(key, wanted)
                return self._create(key, wanted)
            version = wanted["metadata"]["resourceVersion"]
            resource_rules.check_replace(before, wanted, version=version, create_only=create_only)
            held = before["metadata"]
            grown = 0 if before["spec"] == wanted["spec"] else 1
            for name in ("uid", "creationTimestamp", "resourceVersion"):
                wanted["metadata"][name] = held[name]
            wanted["metadata"]["generation"] = held["generation"] + grown
            if "status" in before:
                wanted["status"] = before["status"]
            return self._replace(key, before, wanted)

    def patch_status(self, key: meta.Key, status: meta.Document, *, uid: str) -> meta.Document:
        """Replace the status."""
        with self._changed:
            before = self.get(key)
            if before["metadata"]["uid"] != uid:
                raise errors.NotFound(f"{key} is another object now.")
            resource_rules.check_status(before, status.get("phase", "Pending"))
            return self._replace(key, before, resource_rules.with_status(before, status))

    def delete(self, key: meta.Key, *, uid: str = "") -> None:
        """Delete a resource and what it owns."""
        with self._changed:
            found = self._documents.get(key)
            if found is None or (uid and found["metadata"]["uid"] != uid):
                return
            del self._documents[key]
            self._note("DELETED", found)
            own = found["metadata"]["uid"]
            for other, document in sorted(self._documents.items()):
                owners = document["metadata"].get("ownerReferences", [])
                if any(owner["uid"] == own for owner in owners):
                    self.delete(other)

    def _check_owners(self, key: meta.Key, wanted: meta.Document) -> None:
        living = {document["metadata"]["uid"] for document in self._documents.values()}
        owners = wanted["metadata"]["ownerReferences"]
        if any(owner["uid"] not in living for owner in owners):
            raise errors.Conflict(f"{key} cannot be created: its owner was deleted.")

    def _create(self, key: meta.Key, wanted: meta.Document) -> meta.Document:
        wanted["metadata"] |= {
            "uid": str(uuid.uuid4()),
            "creationTimestamp": conditions.timestamp(self._clock.now()),
            "generation": 1,
            "resourceVersion": str(len(self._changes) + 1),
        }
        self._documents[key] = wanted
        self._note("ADDED", wanted)
        return copy.deepcopy(wanted)

    def _replace(self, key: meta.Key, before: meta.Document, after: meta.Document) -> meta.Document:
        if after == before:
            return copy.deepcopy(before)
        version = str(len(self._changes) + 1)
        stored = {**after, "metadata": {**after["metadata"], "resourceVersion": version}}
        self._documents[key] = stored
        self._note("MODIFIED", stored)
        return copy.deepcopy(stored)

    def _note(self, kind: Literal["ADDED", "MODIFIED", "DELETED"], document: meta.Document) -> None:
        version = str(len(self._changes) + 1)
        change = runplan.Change(type=kind, document=copy.deepcopy(document), version=version)
        self._changes.append(change)
        self._changed.notify_all()
