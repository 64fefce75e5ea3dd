"""What every resource document has in common: base model, metadata, keys, conditions on the wire.

Resources (``apiVersion``/``kind``/``metadata``/``spec``/``status``) are camelCase on the wire,
because the same models become CRDs. All other JSON of the platform is snake_case.

House rule for these models, so that a structural CRD schema can be generated: scalars, string
enumerations, lists, string maps and nested models only; no unions, no tuples, no floats (decimal
strings instead), one-of blocks instead of variants; every list and string is bounded.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from quintile.core import patterns

GROUP = "quintile.dev"
API_VERSION: Final = "quintile.dev/v1alpha1"

Document = dict[str, Any]
"""A resource as raw JSON, as the ResourceStore keeps it."""

Name = Annotated[str, StringConstraints(pattern=patterns.NAME)]
"""RFC 1035 label."""

Short = Annotated[str, StringConstraints(max_length=256)]
Text = Annotated[str, StringConstraints(max_length=1024)]
Decimal = Annotated[str, StringConstraints(pattern=patterns.DECIMAL, max_length=32)]
"""A number written as text, so that no JSON parser rounds it."""


class Wire(BaseModel):
    """Base of every resource model: camelCase on the wire, unknown fields refused, frozen."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_enum_values=True,
    )

    def document(self) -> Document:
        """Return the camelCase JSON form, without fields that are unset or None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Message(BaseModel):
    """Base of every REST and agent message: snake_case, unknown fields refused, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Key(NamedTuple):
    """Identity of a resource for people and queues; facts and bytes use the uid instead."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class OwnerReference(Wire):
    """Who owns this resource; deleting the owner deletes it."""

    api_version: str = API_VERSION
    kind: str
    name: str
    uid: str
    controller: bool = True


class ObjectMeta(Wire):
    """Names, identity and bookkeeping of one resource."""

    name: Name
    namespace: Name = "default"
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: list[OwnerReference] = Field(default_factory=list, max_length=16)


class Condition(Wire):
    """One fact about a resource, as Kubernetes writes it (list map keyed by ``type``)."""

    type: Short
    status: Literal["True", "False", "Unknown"]
    reason: Short = ""
    message: Text = ""
    last_transition_time: str = ""
    observed_generation: int = 0


def key_of(document: Document) -> Key:
    """Return the key of a raw resource document."""
    metadata = document["metadata"]
    return Key(document["kind"], metadata.get("namespace", "default"), metadata["name"])
