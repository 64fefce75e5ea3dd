"""What an Experiment may say about its pods, and what a ClusterRuntime allows of it.

Part of ``core.experiment`` and ``core.admin_kinds``; ``core.pod_overrides`` compares the two. There
is no place here for service accounts, host paths, security contexts, projected or csi volumes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from quintile.core import patterns
from quintile.core.meta import Short, Text, Wire

Image = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^\S+$")]
ObjectName = Annotated[str, StringConstraints(max_length=253, pattern=patterns.OBJECT_NAME)]
"""Name of an object of the project that somebody else made: a Secret, a volume claim."""

VolumeName = Annotated[str, StringConstraints(max_length=63, pattern=patterns.NAME)]
LabelKey = Annotated[str, StringConstraints(max_length=317, pattern=patterns.LABEL_KEY)]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=patterns.LABEL_VALUE)]
MountPath = Annotated[str, StringConstraints(max_length=256, pattern=patterns.MOUNT_PATH)]
RESERVED: Final = (
    "^(([^/]*[.])?(quintile[.]dev|kubernetes[.]io|k8s[.]io)/|(job-name|controller-uid)$)"
)
"""Labels and annotations that decide what becomes of a pod; no user sets them."""


class SecretRef(Wire):
    """A Secret of the project for the ranks; an administrator has allowed it.

    Its keys become environment variables, or with ``mountPath`` files in that folder.
    """

    name: ObjectName
    mount_path: MountPath | None = None


class Label(Wire):
    """A label of the pods."""

    name: LabelKey
    value: LabelValue = ""


class Annotation(Wire):
    """An annotation of the pods."""

    name: LabelKey
    value: Text = ""


class EmptyDir(Wire):
    """Room of one pod alone that goes with it; ``sizeLimit`` as ``20Gi``."""

    size_limit: Short | None = None


class VolumeClaim(Wire):
    """A PersistentVolumeClaim of the project."""

    claim_name: ObjectName
    read_only: bool = False


class Volume(Wire):
    """A volume of the pods: exactly one of the blocks."""

    name: VolumeName
    empty_dir: EmptyDir | None = None
    persistent_volume_claim: VolumeClaim | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.empty_dir is None) == (self.persistent_volume_claim is None):
            raise ValueError(
                f"exactly one of emptyDir, persistentVolumeClaim is expected of volume {self.name}"
            )
        return self


class VolumeMount(Wire):
    """Where a volume lies in the pods."""

    name: VolumeName
    mount_path: MountPath
    read_only: bool = False


class PullSecret(Wire):
    """A Secret of the project that pulls the image."""

    name: ObjectName


class PodOverrides(Wire):
    """What an Experiment adds to its pods, as far as its runtime allows it."""

    labels: list[Label] = Field(default_factory=list, max_length=16)
    annotations: list[Annotation] = Field(default_factory=list, max_length=16)
    volumes: list[Volume] = Field(default_factory=list, max_length=16)
    volume_mounts: list[VolumeMount] = Field(default_factory=list, max_length=16)
    image_pull_secrets: list[PullSecret] = Field(default_factory=list, max_length=8)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        once("labels", (entry.name for entry in self.labels))
        once("annotations", (entry.name for entry in self.annotations))
        once("volumes", (entry.name for entry in self.volumes))
        once("volumeMounts", (entry.mount_path for entry in self.volume_mounts))
        once("imagePullSecrets", (entry.name for entry in self.image_pull_secrets))
        known = {entry.name for entry in self.volumes}
        for mount in self.volume_mounts:
            if mount.name not in known:
                raise ValueError(f"volumeMounts names volume {mount.name}, which volumes lacks")
        return self


class AllowedOverrides(Wire):
    """What Experiments of a runtime may say in ``podOverrides``; what is left out is refused.

    Labels and annotations by name, volume claims and pull Secrets by name, ``emptyDirs`` at all.
    """

    labels: list[LabelKey] = Field(default_factory=list, max_length=32)
    annotations: list[LabelKey] = Field(default_factory=list, max_length=32)
    empty_dirs: bool = False
    volume_claims: list[ObjectName] = Field(default_factory=list, max_length=64)
    image_pull_secrets: list[ObjectName] = Field(default_factory=list, max_length=32)

    @model_validator(mode="after")
    def _leaves_ours_alone(self) -> Self:
        for what, names in (("labels", self.labels), ("annotations", self.annotations)):
            ours = sorted(name for name in names if is_reserved(name))
            if ours:
                raise ValueError(f"{what} holds {', '.join(ours)}, which no user may set")
        return self


def once(what: str, names: Iterable[str]) -> None:
    """Refuse a list that says something twice.

    Raises:
        ValueError: Names the list and what is doubled.
    """
    known = list(names)
    doubled = sorted({name for name in known if known.count(name) > 1})
    if doubled:
        raise ValueError(f"{what} holds {', '.join(doubled)} more than once")


def is_reserved(name: str) -> bool:
    """Return whether a label or annotation belongs to Kubernetes or to us."""
    return re.search(RESERVED, name) is not None
