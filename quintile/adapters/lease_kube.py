"""A Lease of Kubernetes: who leads, as one small object that is read and replaced."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from quintile.adapters import client_kube
from quintile.core import errors, meta

_FORM: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True)
class Record:
    """What a Lease says. ``renewals`` differs after every renewal; an empty holder is nobody."""

    holder: str
    renewals: str
    lasts_s: float
    transitions: int
    version: str


class KubeLease:
    """One Lease by name. Blocking; thread-safe.

    Args:
        client: Speaks with the API server.
        namespace: Where the Lease lies.
        name: Its name.
    """

    def __init__(self, client: client_kube.KubeClient, *, namespace: str, name: str) -> None:
        self._client = client
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name

    def read(self) -> Record | None:
        """Return what the Lease says, None when there is none yet.

        Raises:
            Unavailable: The API server is away.
        """
        try:
            return _record(self._client.get(f"{self._collection}/{self._name}"))
        except errors.NotFound:
            return None

    def write(self, holder: str, *, lasts_s: float, before: Record | None) -> Record:
        """Write a holder, newly renewed; ``before`` is what was read.

        Raises:
            Conflict: Somebody else wrote meanwhile.
            Unavailable: The API server is away.
        """
        now = datetime.now(UTC).strftime(_FORM)
        taken = before is not None and before.holder != holder
        spec: dict[str, Any] = {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(lasts_s)),
            "renewTime": now,
            "leaseTransitions": (before.transitions if before else 0) + (1 if taken else 0),
        }
        if before is None:
            body = self._body({**spec, "acquireTime": now})
            return _record(self._client.create(self._collection, body))
        if taken:
            spec["acquireTime"] = now
        body = {"metadata": {"resourceVersion": before.version}, "spec": spec}
        return _record(self._client.patch(f"{self._collection}/{self._name}", body))

    def _body(self, spec: dict[str, Any]) -> meta.Document:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": spec,
        }


def _record(document: meta.Document) -> Record:
    spec = document.get("spec") or {}
    return Record(
        holder=str(spec.get("holderIdentity") or ""),
        renewals=str(spec.get("renewTime") or ""),
        lasts_s=float(spec.get("leaseDurationSeconds") or 0),
        transitions=int(spec.get("leaseTransitions") or 0),
        version=str(document["metadata"]["resourceVersion"]),
    )
