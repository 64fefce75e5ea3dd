"""What becomes of the pods that an Experiment asks for: allowed by its runtime, then added. Pure.

Called by ``quintile_operator.gate``. Which Secrets are allowed is not for a runtime to say: the
chart and the Secret itself do (``adapters.secrets_kube``).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence

from quintile.core import admin_kinds, errors, experiment, meta, pod_spec, quantities, runplan


def check(spec: experiment.ExperimentSpec, runtime: admin_kinds.ClusterRuntime | None) -> None:
    """Refuse an image and overrides that the runtime does not allow; without one none are.

    Raises:
        InvalidSpec: Names the field.
    """
    rules = runtime.spec if runtime is not None else None
    if spec.image is not None and not (rules is not None and rules.allow_image):
        raise _refusal("spec.image", spec.image, runtime)
    own = spec.pod_overrides
    if own is None:
        return
    allowed = (rules.allow_overrides if rules is not None else None) or pod_spec.AllowedOverrides()
    for field, name in _unallowed(own, allowed):
        raise _refusal(f"spec.podOverrides.{field}", name, runtime)
    for volume in own.volumes:
        if volume.empty_dir is not None and volume.empty_dir.size_limit is not None:
            field = "spec.podOverrides.volumes.emptyDir.sizeLimit"
            quantities.memory_bytes(volume.empty_dir.size_limit, field=field)


def check_no_pods(spec: experiment.ExperimentSpec) -> None:
    """Refuse what only pods can have, on one machine; queue, runtime and image mean nothing there.

    Raises:
        InvalidSpec: Names the field.
    """
    asked = {"secretRefs": spec.secret_refs, "podOverrides": spec.pod_overrides}
    for field, value in asked.items():
        if value:
            raise errors.InvalidSpec(
                f"spec.{field} is for pods of a cluster, and this server runs on one machine.",
                hint="Leave it out here; give what ranks need by --env or spec.estimator.env.",
                field=f"spec.{field}",
            )


def dress(pod: runplan.Pod, spec: experiment.ExperimentSpec) -> runplan.Pod:
    """Return the pods of a runtime with what an Experiment adds; ``check`` has allowed it."""
    own = spec.pod_overrides or pod_spec.PodOverrides()
    places = {volume.name: f"volume-{index}" for index, volume in enumerate(own.volumes)}
    files = [secret for secret in spec.secret_refs if secret.mount_path is not None]
    volumes = [
        *({"name": places[volume.name], **_source(volume)} for volume in own.volumes),
        *(_secret_volume(index, secret) for index, secret in enumerate(files)),
    ]
    mounts = [
        *(
            {
                "name": places[mount.name],
                "mountPath": mount.mount_path,
                "readOnly": mount.read_only,
            }
            for mount in own.volume_mounts
        ),
        *(
            {"name": f"secret-{index}", "mountPath": secret.mount_path, "readOnly": True}
            for index, secret in enumerate(files)
        ),
    ]
    return dataclasses.replace(
        pod,
        image=spec.image or pod.image,
        labels=tuple((entry.name, entry.value) for entry in own.labels),
        annotations=tuple((entry.name, entry.value) for entry in own.annotations),
        volumes=tuple(json.dumps(entry, sort_keys=True) for entry in volumes),
        mounts=tuple(json.dumps(entry, sort_keys=True) for entry in mounts),
        pull_secrets=tuple(entry.name for entry in own.image_pull_secrets),
        variables_from=tuple(
            secret.name for secret in spec.secret_refs if secret.mount_path is None
        ),
    )


def _unallowed(
    own: pod_spec.PodOverrides, allowed: pod_spec.AllowedOverrides
) -> Iterator[tuple[str, str]]:
    """Yield field and name of what is asked for and not allowed."""
    claims = [
        volume.persistent_volume_claim.claim_name
        for volume in own.volumes
        if volume.persistent_volume_claim is not None
    ]
    pulls = [entry.name for entry in own.image_pull_secrets]
    # Reserved names are refused here, too: a runtime may be older than the rule against them.
    marks: tuple[tuple[str, Sequence[pod_spec.Label | pod_spec.Annotation], list[str]], ...] = (
        ("labels", own.labels, allowed.labels),
        ("annotations", own.annotations, allowed.annotations),
    )
    for field, entries, known in marks:
        for entry in entries:
            if entry.name not in known or pod_spec.is_reserved(entry.name):
                yield field, entry.name
    yield from (("volumes", name) for name in claims if name not in allowed.volume_claims)
    yield from (
        ("imagePullSecrets", name) for name in pulls if name not in allowed.image_pull_secrets
    )
    for volume in own.volumes:
        if volume.empty_dir is not None and not allowed.empty_dirs:
            yield "volumes", f"emptyDir {volume.name}"


def _refusal(
    field: str, name: str, runtime: admin_kinds.ClusterRuntime | None
) -> errors.InvalidSpec:
    where = f"Runtime {runtime.metadata.name}" if runtime is not None else "No runtime is named, so"
    verb = "does not allow" if runtime is not None else "nothing allows"
    return errors.InvalidSpec(
        f"{where} {verb} {field.removeprefix('spec.')} {name}.",
        hint="Name a runtime that allows it (spec.runtime), or ask an administrator.",
        field=field,
    )


def _source(volume: pod_spec.Volume) -> meta.Document:
    if volume.persistent_volume_claim is not None:
        return {"persistentVolumeClaim": volume.persistent_volume_claim.document()}
    size = volume.empty_dir.size_limit if volume.empty_dir is not None else None
    return {"emptyDir": {"sizeLimit": size} if size is not None else {}}


def _secret_volume(index: int, secret: pod_spec.SecretRef) -> meta.Document:
    return {"name": f"secret-{index}", "secret": {"secretName": secret.name, "defaultMode": 0o440}}
