"""A ResourceStore in memory with the kinds of administrators beside those of users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from quintile import ports
from quintile.adapters import resource_rules
from quintile.core import admin_kinds, meta
from quintile.testing import resources as fake_resources

KINDS: Final = ("Queue", "ClusterRuntime")


class AdminStore(fake_resources.FakeResourceStore):
    """The fake with the kinds of administrators beside its own."""

    def __init__(self, *, clock: ports.Clock) -> None:
        super().__init__(clock=clock)
        self.admin: dict[tuple[str, str], meta.Document] = {}
        self.statuses: dict[str, meta.Document] = {}

    def put(self, kind: str, name: str, *, default: bool = False, **spec: Any) -> None:
        """Make or replace a queue or runtime."""
        metadata: dict[str, Any] = {"name": name, "uid": f"uid-{name}"}
        if default:
            metadata["annotations"] = {admin_kinds.DEFAULT: "true"}
        model: Mapping[str, Any] = {
            "Queue": admin_kinds.Queue,
            "ClusterRuntime": admin_kinds.ClusterRuntime,
        }
        whole = model[kind].model_validate({"metadata": metadata, "spec": spec})
        self.admin[kind, name] = whole.document()

    def list(self, kind: str, *, namespace: str | None = None) -> ports.Listing:
        """Return all documents of a kind."""
        if kind not in KINDS:
            return super().list(kind, namespace=namespace)
        items = [document for (known, _), document in self.admin.items() if known == kind]
        return ports.Listing(tuple(items), "1")

    def patch_status(self, key: meta.Key, status: meta.Document, *, uid: str) -> meta.Document:
        """Replace the status."""
        if key.kind != "Queue":
            return super().patch_status(key, status, uid=uid)
        self.statuses[key.name] = resource_rules.status_of("Queue", status)
        return self.admin[key.kind, key.name]
