"""ResourceStore in memory."""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Iterator, Sequence

from quintile import ports
from quintile.core import conditions, errors, experiment, meta, runplan


class FakeResourceStore:
    """Documents in a dictionary; every write is a numbered change.

    Args:
        clock: Gives creation times.
    """

    def __init__(self, *, clock: ports.Clock) -> None:
        self._clock = clock
        self._documents: dict[meta.Key, meta.Document] = {}
        self._changes: list[runplan.Change] = []
        self._changed = threading.Condition(threading.RLock())

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
        while True:
            with self._changed:
                if len(self._changes) <= place and not self._changed.wait(wait_s):
                    return
                fresh = self._changes[place:]
            place += len(fresh)
            yield from (change for change in fresh if change.document["kind"] in kinds)

    def apply(
        self, document: meta.Document, *, manager: str, create_only: bool = False
    ) -> meta.Document:
        """Create or replace all but the status."""
        del manager
        key = meta.key_of(document)
        with self._changed:
            before = self._documents.get(key)
            wanted = {name: copy.deepcopy(document[name]) for name in document if name != "status"}
            if before is None:
                return self._put(key, wanted, before=None)
            self._check(key, document, before, create_only=create_only)
            if "status" in before:
                wanted["status"] = before["status"]
            return self._put(key, wanted, before=before)

    def patch_status(self, key: meta.Key, status: meta.Document, *, uid: str) -> meta.Document:
        """Replace the status."""
        with self._changed:
            before = self.get(key)
            if before["metadata"]["uid"] != uid:
                raise errors.NotFound(f"{key} is another object now.")
            phase = (before.get("status") or {}).get("phase")
            if phase in experiment.TERMINAL and status.get("phase") != phase:
                raise errors.Conflict(f"{key} is {phase} for good.")
            return self._put(key, {**before, "status": copy.deepcopy(status)}, before=before)

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

    def _check(
        self,
        key: meta.Key,
        document: meta.Document,
        before: meta.Document,
        *,
        create_only: bool,
    ) -> None:
        if create_only:
            raise errors.Conflict(f"{key} exists already.", hint="Choose another name.")
        version = document["metadata"].get("resourceVersion")
        if version and version != before["metadata"]["resourceVersion"]:
            raise errors.Conflict(f"{key} has changed.", hint="Read it again.")
        if _controller(document) != _controller(before):
            raise errors.Conflict(f"{key} is owned by another object.")

    def _put(
        self, key: meta.Key, wanted: meta.Document, *, before: meta.Document | None
    ) -> meta.Document:
        given = {"namespace": "default", **wanted["metadata"]}
        held = before["metadata"] if before is not None else {}
        same_spec = before is not None and before["spec"] == wanted["spec"]
        generation = held.get("generation", 0) + (0 if same_spec else 1)
        stamp = conditions.timestamp(self._clock.now())
        wanted["metadata"] = {
            **given,
            "uid": held.get("uid") or str(uuid.uuid4()),
            "creationTimestamp": held.get("creationTimestamp") or stamp,
            "generation": generation,
            "resourceVersion": held.get("resourceVersion", ""),
        }
        if wanted == before:
            return copy.deepcopy(wanted)
        wanted["metadata"]["resourceVersion"] = str(len(self._changes) + 1)
        self._documents[key] = wanted
        self._note("MODIFIED" if before is not None else "ADDED", wanted)
        return copy.deepcopy(wanted)

    def _note(self, kind: str, document: meta.Document) -> None:
        change = runplan.Change(
            type=kind,  # type: ignore[arg-type]
            document=copy.deepcopy(document),
            version=str(len(self._changes) + 1),
        )
        self._changes.append(change)
        self._changed.notify_all()


def _controller(document: meta.Document) -> str:
    owners = document["metadata"].get("ownerReferences", [])
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")
