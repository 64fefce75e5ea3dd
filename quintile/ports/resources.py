"""Where desired state and status live: SQL rows here, custom resources in the cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from quintile.core import meta, runplan


@dataclass(frozen=True)
class Listing:
    """A consistent list and the version from which a watch continues."""

    items: tuple[meta.Document, ...]
    version: str


class ResourceStore(Protocol):
    """Raw resource documents by key, with optimistic versions.

    ``metadata.resourceVersion`` changes on every write, ``metadata.generation`` on spec changes
    only. uid, creationTimestamp, generation, resourceVersion are the store's. An unchanged apply
    or patch leaves the version alone.
    """

    def get(self, key: meta.Key) -> meta.Document:
        """Return a document.

        Raises:
            NotFound: No such resource.
        """
        ...

    def list(self, kind: str, *, namespace: str | None = None) -> Listing:
        """Return all documents of a kind, sorted by (namespace, name)."""
        ...

    def watch(self, kinds: Sequence[str], *, since: str, wait_s: float) -> Iterator[runplan.Change]:
        """Yield changes after version ``since`` ("" = all there is); end when none comes.

        ``since`` is the version of a listing, of a resource or of a change. The changes of one
        kind come in order, those of several kinds nearly so. At least once; several changes of one
        resource may come as the newest of them. Ends after ``wait_s`` without a change, or a
        little later where that is all that tells that none is under way; and early at any time.

        Raises:
            Conflict: ``since`` is too old; list again.
        """
        ...

    def apply(
        self, document: meta.Document, *, manager: str, create_only: bool = False
    ) -> meta.Document:
        """Create the resource or replace its spec, labels, annotations and owners.

        ``status`` in the document is ignored. With ``metadata.resourceVersion`` set, the stored
        version must equal it. ``manager`` says who writes: where fields have owners, labels and
        annotations of other managers stay, and a field of another one that would change conflicts.

        Raises:
            Conflict: The version differs, ``create_only`` and it exists, it is owned by another
                controller uid, it is being deleted, or its owner is gone already.
            InvalidSpec: The document does not fit its kind or changes an immutable field.
        """
        ...

    def patch_status(self, key: meta.Key, status: meta.Document, *, uid: str) -> meta.Document:
        """Replace the status. Terminal phases never change back.

        Raises:
            NotFound: No such resource (or another uid lives under the name now).
            Conflict: The stored phase is terminal and differs.
        """
        ...

    def delete(self, key: meta.Key, *, uid: str = "") -> None:
        """Delete the resource, and soon after everything it owns. Idempotent.

        ``uid``: another resource that lives under the name now is left alone.
        """
        ...
