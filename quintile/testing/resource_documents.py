"""Small resources, and short words for what tests of a ResourceStore do with them."""

from __future__ import annotations

from typing import Any

from quintile import ports
from quintile.core import meta

KEY = meta.Key("Experiment", "default", "digits")
SPEC: dict[str, Any] = {"estimator": {"builtin": {"model": "resnet8"}}}
JOB: dict[str, Any] = {"dataset": {"name": "digits", "version": 1}, "labels": ["0", "1"]}
KINDS = ("Experiment", "Trial", "LabelingJob")


def document(name: str = "digits", *, kind: str = "Experiment", **of: Any) -> meta.Document:
    """Return a small document; keywords are its namespace, metadata and fields of its spec."""
    metadata = {"name": name, "namespace": of.pop("namespace", "default"), **of.pop("metadata", {})}
    return {"kind": kind, "metadata": metadata, "spec": {**SPEC, **of}}


def job(name: str = "parts", **of: Any) -> meta.Document:
    """Return a small LabelingJob; keywords are fields of its spec."""
    return {"kind": "LabelingJob", "metadata": {"name": name}, "spec": {**JOB, **of}}


def trial(
    parent: meta.Document, *, name: str = "digits-t0", suspend: bool = False
) -> meta.Document:
    """Return a Trial that an Experiment owns."""
    held = parent["metadata"]
    owner = {"kind": "Experiment", "name": held["name"], "uid": held["uid"]}
    return {
        "kind": "Trial",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {
            "experiment": held["name"],
            "experimentUid": held["uid"],
            "template": {**parent["spec"], "suspend": suspend},
        },
    }


def add(store: ports.ResourceStore, wanted: meta.Document | None = None) -> meta.Document:
    """Apply a document as manager ``test``."""
    return store.apply(wanted or document(), manager="test")


def seen(store: ports.ResourceStore, since: str, *, wait_s: float = 0.0) -> list[tuple[str, str]]:
    """Return type and name of every change since a version, until ``wait_s`` without one."""
    changes = store.watch(KINDS, since=since, wait_s=wait_s)
    return [(change.type, meta.key_of(change.document).name) for change in changes]
