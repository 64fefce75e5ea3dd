"""Types that several values share."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import pydantic
from pydantic import Field
from pydantic.alias_generators import to_camel

NAME: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
NAME_OR_EMPTY: Final = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"

NonEmpty = Annotated[str, Field(min_length=1)]
Secret = Annotated[str, Field(pattern=NAME_OR_EMPTY, max_length=253)]
Url = Annotated[str, Field(pattern=r"^(https?://[^/\s]+)?$")]
Pairs = dict[str, str]
Objects = list[dict[str, Any]]
Egress = Objects
Resources = dict[str, Any]


class Closed(pydantic.BaseModel):
    """A group of values; unknown names are errors, names are written in camelCase."""

    model_config = pydantic.ConfigDict(
        alias_generator=lambda name: (
            "memoryGiB"
            if name == "memory_gib"
            else ("scratchGiB" if name == "scratch_gib" else to_camel(name))
        ),
        populate_by_name=True,
        frozen=True,
        extra="forbid",
    )


class Image(Closed):
    """One image."""

    registry: str = Field(
        default="", description="Its registry; empty: `imageRegistry`, and without that none."
    )
    name: str = Field(default="", description="Its name, with the path before it.")
    tag: str = Field(default="", description="Its tag; empty: the version of the chart.")
    digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")] = Field(
        default="", description="Its digest, `sha256:...`; wins over the tag."
    )
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When nodes pull it."
    )


class Service(Closed):
    """What each of the three services takes."""

    replicas: int = Field(default=1, ge=0, le=10, description="How many pods.")
    resources: Resources = Field(
        default={
            "requests": {"cpu": "100m", "memory": "384Mi"},
            "limits": {"memory": "2Gi"},
        },
        description="Resources of its container.",
    )
    env: Pairs = Field(
        default={},
        description='Further settings, as `QUINTILE_API__SESSION_HOURS: "8"`; see '
        "docs/reference/settings.md.",
    )
    pod_annotations: Pairs = Field(default={}, description="Annotations of its pods.")
    pod_labels: Pairs = Field(default={}, description="Further labels of its pods.")
    node_selector: Pairs = Field(default={}, description="Labels of the nodes it runs on.")
    tolerations: Objects = Field(default=[], description="Taints that its pods tolerate.")
    affinity: dict[str, Any] = Field(default={}, description="Affinity of its pods.")
    priority_class: str = Field(default="", description="Priority class of its pods.")
    disruption_budget: bool = Field(
        default=True,
        description="Whether a PodDisruptionBudget keeps one pod when nodes are drained; made for "
        "two replicas and more.",
    )
