"""The resources of administrators, which belong to no project: Queue and ClusterRuntime.

A Queue says how much of the cluster the trials that name it may hold at one time, and who goes
first. A ClusterRuntime says in what kind of pod they run and what a user may ask for. Both are
read by the reconciler; an Experiment names them in ``spec.queue`` and ``spec.runtime``.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from quintile.core.experiment import Mode
from quintile.core.meta import API_VERSION, Condition, Name, Short, Text, Wire
from quintile.core.pod_spec import AllowedOverrides, Image, once

Counted = Literal["cpu", "memory", "gpu", "trials"]
"""What a quota counts: cores, bytes, GPUs, and trials at one time."""


DEFAULT: Final = "quintile.dev/default"
"""Annotation, ``true`` on the queue or runtime of Experiments that name none."""


class ClusterMeta(Wire):
    """Names, identity and bookkeeping of a resource that belongs to no namespace."""

    name: Name
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    @property
    def is_default(self) -> bool:
        """Whether it is for Experiments that name none."""
        return self.annotations.get(DEFAULT) == "true"


class Quota(Wire):
    """How much of one resource all admitted trials may hold together.

    ``amount`` is written as in Kubernetes: ``8`` or ``500m`` of cpu, ``64Gi`` of memory, whole
    numbers of gpu and of trials.
    """

    resource: Counted
    amount: Short


class Priority(Wire):
    """A word for how soon a trial goes; a higher value goes first. Without a word it is 0."""

    name: Name
    value: Annotated[int, Field(ge=-1_000_000, le=1_000_000)]


class QueueSpec(Wire):
    """Who may hold how much.

    ``namespaces``: the projects that may use the queue; empty = all. What ``quota`` does not name
    is not limited. Trials go in order of priority, then of age, and one that does not fit yet
    holds the ones behind it back. ``preemption: Lower`` lets a trial take the place of others of
    lower priority: they save their state, and wait again.
    """

    namespaces: list[Name] = Field(default_factory=list, max_length=256)
    quota: list[Quota] = Field(default_factory=list, max_length=8)
    priorities: list[Priority] = Field(default_factory=list, max_length=32)
    preemption: Literal["Never", "Lower"] = "Never"
    max_pending_per_namespace: Annotated[int, Field(ge=1, le=100_000)] | None = None

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        once("quota", (str(entry.resource) for entry in self.quota))
        once("priorities", (entry.name for entry in self.priorities))
        return self


class QueueStatus(Wire):
    """What the queue holds now: trials admitted and waiting, and how much is in use."""

    observed_generation: int = 0
    admitted: int = 0
    pending: int = 0
    used: list[Quota] = Field(default_factory=list, max_length=8)
    conditions: list[Condition] = Field(default_factory=list, max_length=16)


class Queue(Wire):
    """How much of the cluster the trials of some projects may hold at one time."""

    api_version: Literal["quintile.dev/v1alpha1"] = API_VERSION
    kind: Literal["Queue"] = "Queue"
    metadata: ClusterMeta
    spec: QueueSpec
    status: QueueStatus | None = None


class Toleration(Wire):
    """A taint of nodes that the pods may live with, as Kubernetes writes it."""

    key: Short = ""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: Short = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""

    @model_validator(mode="after")
    def _names_a_key(self) -> Self:
        if not self.key and self.operator != "Exists":
            raise ValueError("a toleration without a key needs operator Exists")
        if self.value and self.operator == "Exists":
            raise ValueError("a toleration with operator Exists has no value")
        return self


class Amounts(Wire):
    """Of one replica: cpu and memory as quantities, GPUs as a number; left out = no word on it."""

    cpu: Short | None = None
    memory: Short | None = None
    gpu: Annotated[int, Field(ge=0, le=64)] | None = None


class ClusterRuntimeSpec(Wire):
    """In what kind of pod trials run.

    ``image``: best by digest (``name@sha256:...``), so that a trial never changes under way.
    ``modes``: what may run here; empty = all. ``defaults`` hold where an Experiment says nothing,
    ``limits`` are the most that it may ask for. ``shmSize`` is the memory behind /dev/shm.
    ``allowImage``: an Experiment may bring an image of its own.
    """

    image: Image
    allow_image: bool = False
    allow_overrides: AllowedOverrides | None = None
    modes: list[Mode] = Field(default_factory=list, max_length=8)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[Toleration] = Field(default_factory=list, max_length=32)
    defaults: Amounts = Amounts()
    limits: Amounts = Amounts()
    shm_size: Short | None = None
    priority_class: Name | None = None
    gpu_resource: Short = "nvidia.com/gpu"
    description: Text = ""


class ClusterRuntime(Wire):
    """In what kind of pod trials run, and what a user may ask for."""

    api_version: Literal["quintile.dev/v1alpha1"] = API_VERSION
    kind: Literal["ClusterRuntime"] = "ClusterRuntime"
    metadata: ClusterMeta
    spec: ClusterRuntimeSpec
