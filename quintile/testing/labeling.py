"""Fakes of what the labeling service asks of others: dataset versions and identities."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence

from quintile.core import datasets, errors, identity


class FakeCatalog:
    """Dataset versions in memory, keyed by (project, dataset, version).

    ``failures``: errors that the next calls raise, one each, before anything happens.
    """

    def __init__(self) -> None:
        self.failures: list[errors.QuintileError] = []
        self.made: dict[str, tuple[datasets.VersionView, list[datasets.LabelRow]]] = {}
        self._versions: dict[tuple[str, str, int], datasets.VersionView] = {}
        self._items: dict[tuple[str, str, int], list[datasets.ItemView]] = {}
        self._lock = threading.Lock()

    def add(
        self,
        project: str,
        dataset: str,
        version: int,
        *,
        names: Sequence[str],
        classes: Sequence[str] = (),
    ) -> list[datasets.ItemView]:
        """Put a version with one item for each name; return its items sorted by id."""
        items = sorted((item_view(name) for name in names), key=lambda item: item.item_id)
        with self._lock:
            self._put(project, dataset, version, items, list(classes))
        return items

    def version(self, project: str, dataset: str, version: int) -> datasets.VersionView:
        """Return one version."""
        with self._lock:
            self._fail()
            return self._find(project, dataset, version)

    def items(self, project: str, dataset: str, version: int) -> Iterator[datasets.ItemView]:
        """Yield all items of a version, not sorted."""
        with self._lock:
            self._fail()
            self._find(project, dataset, version)
            found = list(self._items[(project, dataset, version)])
        yield from sorted(found, key=lambda item: item.name)

    def create_version(
        self,
        project: str,
        dataset: str,
        wanted: datasets.VersionCreate,
        rows: Sequence[datasets.LabelRow],
    ) -> datasets.VersionView:
        """Create a version, or return the one that this key made."""
        with self._lock:
            self._fail()
            known = self.made.get(wanted.idempotency_key)
            if known is not None:
                if known[1] != list(rows):
                    raise errors.Conflict("This key made a version of other labels.")
                return known[0]
            number = wanted.version or self._next(project, dataset)
            if (project, dataset, number) in self._versions:
                raise errors.Conflict(f"Version {number} of dataset {dataset!r} exists already.")
            items = self._items[(project, dataset, wanted.parent)]
            made = self._put(project, dataset, number, items, wanted.classes)
            self.made[wanted.idempotency_key] = (made, list(rows))
            return made

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    def _next(self, project: str, dataset: str) -> int:
        return 1 + max(key[2] for key in self._versions if key[:2] == (project, dataset))

    def _find(self, project: str, dataset: str, version: int) -> datasets.VersionView:
        found = self._versions.get((project, dataset, version))
        if found is None:
            raise errors.NotFound(f"There is no version {version} of dataset {dataset!r}.")
        return found

    def _put(
        self,
        project: str,
        dataset: str,
        version: int,
        items: list[datasets.ItemView],
        classes: list[str],
    ) -> datasets.VersionView:
        digest = hashlib.sha256("".join(item.item_id for item in items).encode()).hexdigest()
        made = datasets.VersionView(
            dataset=dataset,
            dataset_uid=f"uid-{dataset}",
            version=version,
            parent=None,
            digest=digest,
            items=len(items),
            labelled=0,
            bytes=0,
            classes=[
                datasets.ClassInfo(id=number, name=name) for number, name in enumerate(classes)
            ],
            label_sources={},
            manifest_key=f"datasets/{dataset}/v{version}/manifest.parquet",
            manifest_sha256=digest,
            labels_key=f"datasets/{dataset}/v{version}/labels.parquet",
            labels_sha256="",
            origin="test",
            created="2026-01-01T00:00:00Z",
        )
        self._versions[(project, dataset, version)] = made
        self._items[(project, dataset, version)] = list(items)
        return made


def item_view(name: str) -> datasets.ItemView:
    """Return an item of this name, with the id that a real import would give it."""
    sha256 = hashlib.sha256(f"bytes of {name}".encode()).hexdigest()
    return datasets.ItemView(
        item_id=hashlib.sha256(f"{name}\0{sha256}".encode()).hexdigest()[:16],
        name=name,
        width=8,
        height=8,
        size=64,
        sha256=sha256,
        format="png",
    )


class FakeIdentities:
    """People by token: ``Authorization: Bearer TOKEN``, or the token as session cookie."""

    def __init__(self) -> None:
        self.asked = 0
        self._people: dict[str, identity.Identity] = {}

    def add(self, name: str, *, role: identity.Role | None, project: str = "default") -> str:
        """Let a person exist, with a role in one project or (None) in none; return the token."""
        token = f"token-{name}"
        self._people[token] = identity.Identity(
            kind="user",
            id=f"id-{name}",
            name=name,
            roles={} if role is None else {project: role},
        )
        return token

    def identity(self, *, authorization: str, cookie: str) -> identity.Identity:
        """Return who holds these credentials."""
        self.asked += 1
        found = self._people.get(authorization.removeprefix("Bearer ") or cookie)
        if found is None:
            raise errors.Unauthorized("The API token is unknown, revoked or expired.")
        return found
