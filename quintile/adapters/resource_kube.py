"""Port ``ResourceStore`` on the custom resources of a Kubernetes cluster.

Writes are server-side applies: each caller owns the fields that it names, under its own manager.
The rules of the models hold before anything is sent, so that errors name their field; the API
server holds everybody else to the same rules from the CRDs. Nothing is cached.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from quintile import ports
from quintile.adapters import client_kube, documents_kube, resource_rules, watch_kube
from quintile.core import errors, meta, runplan

OPERATOR: Final = "quintile-operator"
"""The only manager that writes status, and that takes fields of its children from others."""

PAGE: Final = 500
SETTLE_S: Final = 1.0
"""How long a watch is silent before what happened until now has surely come."""

_NO_OBJECT: Final = "1"
"""A version that no object has: an apply with it creates, or conflicts."""

_TRIES: Final = 5
_TYPES: Final[dict[str, Literal["ADDED", "MODIFIED", "DELETED"]]] = {
    "ADDED": "ADDED",
    "MODIFIED": "MODIFIED",
    "DELETED": "DELETED",
}


class KubeResourceStore:
    """Documents in the namespaces of a cluster. Blocking; thread-safe.

    Args:
        client: Speaks with the API server.
        namespaces: The projects; None: every namespace, which needs rights in the whole cluster.
    """

    def __init__(
        self, client: client_kube.KubeClient, namespaces: Sequence[str] | None = None
    ) -> None:
        self._client = client
        self._namespaces = tuple(namespaces) if namespaces is not None else None

    def get(self, key: meta.Key) -> meta.Document:
        """Return a document."""
        return documents_kube.from_api(self._stored(key), key.kind)

    def list(self, kind: str, *, namespace: str | None = None) -> ports.Listing:
        """Return all documents of a kind, sorted by (namespace, name)."""
        found: list[meta.Document] = []
        versions: list[int] = []
        for path in self._paths(kind, namespace).values():
            items, version = _pages(self._client, path)
            found += items
            versions.append(version)
        whole = sorted((documents_kube.from_api(item, kind) for item in found), key=meta.key_of)
        return ports.Listing(items=tuple(whole), version=str(min(versions, default=0) or ""))

    def watch(self, kinds: Sequence[str], *, since: str, wait_s: float) -> Iterator[runplan.Change]:
        """Yield changes after ``since`` ("" = all there is), of each kind in order.

        Ends after ``wait_s``, but at least ``SETTLE_S``, without one.

        Raises:
            Conflict: ``since`` is too old; list again.
        """
        paths = {name: path for kind in kinds for name, path in self._paths(kind, None).items()}
        place = _Place.parse(since, tuple(paths))
        if not since:
            for kind in kinds:
                listing = self._newest(kind)
                for document in listing.items:
                    yield runplan.Change("ADDED", document, place.text)
                place.start(kind, listing.version)
        sources = {name: watch_kube.Source(path) for name, path in paths.items()}
        watches = watch_kube.Watches(self._client, sources, place.positions)
        try:
            while (seen := watches.take(timeout_s=max(wait_s, SETTLE_S))) is not None:
                document = documents_kube.from_api(seen.document, seen.source.partition("/")[0])
                place.positions = watches.positions
                yield runplan.Change(_TYPES[seen.type], document, place.text)
        finally:
            watches.close()

    def apply(
        self, document: meta.Document, *, manager: str, create_only: bool = False
    ) -> meta.Document:
        """Create the resource or replace its spec, labels, annotations and owners.

        Labels and annotations that another manager set stay.

        Raises:
            Conflict: As the port says; or another manager owns a field that would change.
        """
        wanted = resource_rules.without_status(document)
        key = meta.key_of(wanted)
        self._check_namespace(key)
        for tries_left in reversed(range(_TRIES)):
            stored = None if create_only else self._find(key)
            try:
                if stored is None:
                    return self._create(key, wanted, manager=manager)
                return self._replace(key, wanted, stored, manager=manager)
            except client_kube.Owned:
                raise
            except errors.Conflict:
                # Another writer was faster. Who did not care for a version looks again.
                version = wanted["metadata"]["resourceVersion"]
                if create_only or not tries_left or (stored is not None and version):
                    raise
        raise AssertionError("unreachable")

    def patch_status(self, key: meta.Key, status: meta.Document, *, uid: str) -> meta.Document:
        """Replace the status as manager ``OPERATOR``."""
        # A server-side apply of a status ignores the uid that it names; a test does not.
        body = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {
                "op": "add",
                "path": "/status",
                "value": resource_rules.status_of(key.kind, status),
            },
        ]
        path = f"{documents_kube.path(key.kind, key.namespace, key.name)}/status"
        try:
            after = self._client.patch(path, body, form="json", manager=OPERATOR)
        except (errors.InvalidSpec, errors.Conflict, errors.NotFound) as error:
            found = self._find(key)
            if found is None or found["metadata"]["uid"] != uid:
                raise errors.NotFound(f"There is no {key} with uid {uid} any more.") from error
            resource_rules.check_status(found, status.get("phase", "Pending"))
            raise
        return documents_kube.from_api(after, key.kind)

    def delete(self, key: meta.Key, *, uid: str = "") -> None:
        """Delete the resource; the cluster deletes what it owns soon after."""
        self._client.delete(documents_kube.path(key.kind, key.namespace, key.name), uid=uid)

    def _create(self, key: meta.Key, wanted: meta.Document, *, manager: str) -> meta.Document:
        self._check_owners(key, wanted)
        body = documents_kube.to_create(wanted)
        body["metadata"]["resourceVersion"] = _NO_OBJECT
        path = documents_kube.path(key.kind, key.namespace, key.name)
        try:
            made = self._client.apply(path, body, manager=manager)
        except errors.Conflict as error:
            raise errors.Conflict(f"{key} exists already.", hint="Choose another name.") from error
        return documents_kube.from_api(made, key.kind)

    def _replace(
        self, key: meta.Key, wanted: meta.Document, stored: meta.Document, *, manager: str
    ) -> meta.Document:
        before = documents_kube.from_api(stored, key.kind)
        version = wanted["metadata"]["resourceVersion"]
        if before["metadata"].get("deletionTimestamp"):
            raise errors.Conflict(f"{key} is being deleted.", hint="Wait until it is gone.")
        resource_rules.check_replace(before, wanted, version=version, create_only=False)
        if documents_kube.same(before, wanted):
            return before
        body = documents_kube.to_replace(wanted, stored)
        # What was just checked is what is replaced; the uid and owner can be no other ones.
        body["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
        force = manager == OPERATOR and bool(resource_rules.controller_uid(wanted))
        path = documents_kube.path(key.kind, key.namespace, key.name)
        after = self._client.apply(path, body, manager=manager, force=force)
        return documents_kube.from_api(after, key.kind)

    def _check_owners(self, key: meta.Key, wanted: meta.Document) -> None:
        for owner in wanted["metadata"]["ownerReferences"]:
            if owner["kind"] not in documents_kube.KINDS:
                continue
            found = self._find(meta.Key(owner["kind"], key.namespace, owner["name"]))
            if found is None or found["metadata"]["uid"] != owner["uid"]:
                raise errors.Conflict(
                    f"{key} cannot be created: its owner was deleted.",
                    hint="Create the owner again.",
                )

    def _check_namespace(self, key: meta.Key) -> None:
        known = self._namespaces
        if known is not None and key.namespace not in known:
            raise errors.InvalidSpec(
                f"{key.namespace} is not a project of this installation.",
                hint=f"Projects are {', '.join(known) or 'none yet'}.",
                field="metadata.namespace",
            )

    def _stored(self, key: meta.Key) -> meta.Document:
        path = documents_kube.path(key.kind, key.namespace, key.name)
        try:
            return self._client.get(path)
        except errors.NotFound as error:
            raise errors.NotFound(
                f"There is no {key}.", hint="Check name and project; it may have been deleted."
            ) from error

    def _find(self, key: meta.Key) -> meta.Document | None:
        try:
            return self._stored(key)
        except errors.NotFound:
            return None

    def _paths(self, kind: str, namespace: str | None) -> dict[str, str]:
        """Return the collections to read, by ``KIND/NAMESPACE`` (``KIND/`` for the cluster)."""
        clustered = documents_kube.path(kind) == documents_kube.path(kind, "any")
        if clustered or (namespace is None and self._namespaces is None):
            return {f"{kind}/": documents_kube.path(kind)}
        chosen = (namespace,) if namespace is not None else self._namespaces or ()
        return {f"{kind}/{name}": documents_kube.path(kind, name) for name in chosen}

    def _newest(self, kind: str) -> ports.Listing:
        listing = self.list(kind)
        by_version = sorted(
            listing.items, key=lambda document: int(document["metadata"]["resourceVersion"])
        )
        return ports.Listing(items=tuple(by_version), version=listing.version)


def _pages(client: client_kube.KubeClient, path: str) -> tuple[list[meta.Document], int]:
    found: list[meta.Document] = []
    answer = client.get(path, limit=PAGE)
    version = int(answer["metadata"]["resourceVersion"])
    while True:
        found += answer["items"]
        more = answer["metadata"].get("continue")
        if not more:
            return found, version
        answer = client.get(path, limit=PAGE, **{"continue": more})


class _Place:
    """From which version each source of a watch continues, as one text."""

    def __init__(self, positions: dict[str, str]) -> None:
        self.positions = positions

    @classmethod
    def parse(cls, since: str, names: Sequence[str]) -> _Place:
        """Return the place that a version means: one number for all, or one by source."""
        if not since or since.isdigit():
            return cls(dict.fromkeys(names, since))
        known = dict(entry.partition("=")[::2] for entry in since.split(","))
        if not all(position.isdigit() for position in known.values()):
            raise errors.InvalidSpec(
                f"{since!r} is not a version of this store.",
                hint="Pass the version of a list or of a change.",
                field="since",
            )
        # A source that was not watched then continues from before everything that was.
        first = min(known.values(), key=int)
        return cls({name: known.get(name, first) for name in names})

    def start(self, kind: str, version: str) -> None:
        """Let all sources of a kind continue from one version."""
        mine = [name for name in self.positions if name.startswith(f"{kind}/")]
        self.positions = {**self.positions, **dict.fromkeys(mine, version)}

    @property
    def text(self) -> str:
        """The version that ``parse`` understands; empty while a source has no position yet."""
        if not all(self.positions.values()):
            return ""
        return ",".join(f"{name}={version}" for name, version in self.positions.items())
