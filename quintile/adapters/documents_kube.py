"""Our documents as the Kubernetes API holds them, and back. Pure.

A document of a ResourceStore is complete: every field of its model is there. What goes to the API
server leaves out what nobody said, because a field that is absent and one that is empty differ to
the rule "cannot change", and because a field that we send is a field that we own.
"""

from __future__ import annotations

from typing import Any, Final

from quintile.adapters import resource_rules
from quintile.core import admin_kinds, crd, errors, meta

KINDS: Final = {kind.model.__name__: kind for kind in crd.KINDS}
_METADATA: Final = frozenset(
    field.alias or name
    for model in (meta.ObjectMeta, admin_kinds.ClusterMeta)
    for name, field in model.model_fields.items()
)
_OWNER: Final = frozenset(
    field.alias or name for name, field in meta.OwnerReference.model_fields.items()
)
_STORES_OWN: Final = frozenset(
    {"uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"}
)
_EMPTY: Final[tuple[object, ...]] = ("", [], {})


def path(kind: str, namespace: str | None = None, name: str = "") -> str:
    """Return where a resource, or the collection of a namespace or of the cluster, lies.

    Raises:
        InvalidSpec: The kind is unknown.
    """
    known = KINDS.get(kind)
    if known is None:
        raise errors.InvalidSpec(
            f"There are no resources of kind {kind!r}.",
            hint=f"Kinds are {', '.join(KINDS)}.",
            field="kind",
        )
    place = f"/namespaces/{namespace}" if namespace and known.scope == "Namespaced" else ""
    return f"/apis/{meta.API_VERSION}{place}/{known.plural}" + (f"/{name}" if name else "")


def from_api(document: meta.Document, kind: str) -> meta.Document:
    """Return a document of the API server as a ResourceStore gives it: ours, and complete.

    One that does not fit the model (a newer release wrote it) comes as it is.
    """
    given = {"apiVersion": meta.API_VERSION, "kind": kind, **document}
    held = document["metadata"]
    metadata = {name: value for name, value in held.items() if name in _METADATA}
    if "ownerReferences" in metadata:
        metadata["ownerReferences"] = [
            {name: value for name, value in owner.items() if name in _OWNER}
            for owner in metadata["ownerReferences"]
        ]
    given["metadata"] = metadata
    if not given.get("status"):
        given.pop("status", None)
    if kind not in resource_rules.MODELS:
        return given
    try:
        return resource_rules.parse(given).document()
    except errors.InvalidSpec:
        return given


def to_create(wanted: meta.Document) -> meta.Document:
    """Return what to send for a complete document that is not there yet: what was said, no more."""
    said = resource_rules.parse(wanted).model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True
    )
    return {**said, **_head(wanted), "spec": said["spec"]}


def to_replace(wanted: meta.Document, stored: meta.Document) -> meta.Document:
    """Return what to send for a complete document that replaces ``stored``, as the API has it."""
    return {**_head(wanted), "spec": _aligned(wanted["spec"], stored["spec"])}


def same(before: meta.Document, wanted: meta.Document) -> bool:
    """Return whether a complete document says nothing new about the one before it."""
    names = ("labels", "annotations", "ownerReferences")
    return bool(before["spec"] == wanted["spec"]) and all(
        before["metadata"].get(name) == wanted["metadata"].get(name) for name in names
    )


def _head(wanted: meta.Document) -> meta.Document:
    metadata = {
        name: value
        for name, value in wanted["metadata"].items()
        if name not in _STORES_OWN and value not in _EMPTY
    }
    return {"apiVersion": meta.API_VERSION, "kind": wanted["kind"], "metadata": metadata}


def _aligned(wanted: Any, stored: Any) -> Any:
    """Return ``wanted`` without empty fields that ``stored`` does not have."""
    if isinstance(wanted, dict) and isinstance(stored, dict):
        return {
            name: _aligned(value, stored.get(name))
            for name, value in wanted.items()
            if name in stored or value not in _EMPTY
        }
    if isinstance(wanted, list) and isinstance(stored, list):
        others = [*stored, *[None] * max(0, len(wanted) - len(stored))]
        return [_aligned(value, other) for value, other in zip(wanted, others, strict=False)]
    return wanted
