"""The pod of a replica: what the admin sets for all of them, and the restricted template. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from quintile.core import errors, meta, quantities, runplan
from quintile_operator.manifests import marks

CONTAINER: Final = "agent"
SCRATCH: Final = "/var/lib/quintile"
STATE: Final = f"{SCRATCH}/state"
CACHE: Final = f"{SCRATCH}/cache"
EXIT_FILE: Final = "/dev/termination-log"
GRACE_MARGIN_S: Final = 30
"""What an agent needs after its ranks ended, to deliver what they left."""

TOKEN: Final = "QUINTILE_TOKEN"
"""The variable of the token, and its key in the Secret of the attempt."""

PER_REPLICA: Final = ("QUINTILE_INDEX", "QUINTILE_HOST")
"""Variables that differ between the replicas of a role; the pod fills them in."""

PER_ROLE: Final = ("QUINTILE_ROLE", "QUINTILE_PROCS")

GIB: Final = 2**30
PullPolicy = Literal["Always", "IfNotPresent", "Never"]


@dataclass(frozen=True)
class PodSite:
    """What the admin of a cluster sets for the pods of all trials.

    Attributes:
        image: Image of the trainer.
        service_account: It needs no rights, and its token is not mounted.
        pull_policy: When nodes pull the image.
        pull_secrets: Secrets of the project's namespace that pull the image.
        user: Numeric user and group.
        scratch_bytes: Room for state, code and caches of one pod.
        memory_bytes: Room for shared memory of one pod; counts against its memory.
        network_policies: Whether each trial gets a NetworkPolicy.
        egress: What pods may reach beside each other, as egress rules of a NetworkPolicy.
        node_selector: Labels of the nodes that pods may run on.
        tolerations: Taints that pods tolerate.
        priority_class: Priority class of the pods; empty: the cluster's default.
        gpu_resource: What the device plugin calls a GPU.
        cpu_millis: CPU that is asked for where a run names none.
        default_memory_bytes: Memory that is asked for where a run names none.
        ended_ttl_s: How long ended pods stay to be looked at.
        pending_deadline_s: How long a pod may find no node before its attempt gives back the
            nodes that it has, and is tried again later.
    """

    image: str
    service_account: str = "quintile-worker"
    pull_policy: PullPolicy = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    user: int = 65532
    scratch_bytes: int = 10 * GIB
    memory_bytes: int = GIB
    network_policies: bool = True
    egress: tuple[meta.Document, ...] = ()
    node_selector: Mapping[str, str] | None = None
    tolerations: tuple[meta.Document, ...] = ()
    priority_class: str = ""
    gpu_resource: str = "nvidia.com/gpu"
    cpu_millis: int = 100
    default_memory_bytes: int = 256 * 2**20
    ended_ttl_s: int = 3600
    pending_deadline_s: float = 600.0

    def check(self) -> None:
        """Refuse what can never work.

        Raises:
            InvalidSpec: The setting is named.
        """
        if not self.image:
            raise errors.InvalidSpec(
                "No image of workers is set.",
                hint="Set QUINTILE_KUBERNETES__WORKER_IMAGE to the trainer's image.",
                field="kubernetes.worker_image",
            )
        if self.network_policies and not self.egress:
            raise errors.InvalidSpec(
                "Network policies are on, but nothing says what workers may reach.",
                hint="Set QUINTILE_KUBERNETES__EGRESS to rules for the name service, the API and "
                "the object store, or QUINTILE_KUBERNETES__NETWORK_POLICIES=false.",
                field="kubernetes.egress",
            )


def site_of(run: runplan.RunPlan, site: PodSite) -> PodSite:
    """Return the site as the runtime of an attempt changes it."""
    own = run.pod
    if own is None:
        return site
    return dataclasses.replace(
        site,
        image=own.image or site.image,
        node_selector={**(site.node_selector or {}), **dict(own.node_selector)},
        tolerations=(*site.tolerations, *(json.loads(entry) for entry in own.tolerations)),
        priority_class=own.priority_class or site.priority_class,
        gpu_resource=own.gpu_resource or site.gpu_resource,
        memory_bytes=own.shm_bytes or site.memory_bytes,
    )


def template(
    run: runplan.RunPlan, replica: runplan.ReplicaPlan, site: PodSite, *, names: Mapping[str, str]
) -> meta.Document:
    """Return the pod template of a role; ``replica`` is any of its replicas.

    ``names``: of the ``service`` and of the ``secret``.
    """
    own = run.pod or runplan.Pod()
    spec: meta.Document = {
        "restartPolicy": "Never",
        "subdomain": names["service"],
        "serviceAccountName": site.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": run.grace_s + GRACE_MARGIN_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": site.user,
            "runAsGroup": site.user,
            "fsGroup": site.user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(run, replica, site, names=names)],
        "volumes": [
            *(_volume(json.loads(entry), site) for entry in own.volumes),
            {"name": "scratch", "emptyDir": {"sizeLimit": str(site.scratch_bytes)}},
            {"name": "tmp", "emptyDir": {"sizeLimit": str(site.scratch_bytes)}},
            {
                "name": "memory",
                "emptyDir": {"medium": "Memory", "sizeLimit": str(site.memory_bytes)},
            },
        ],
    }
    optional = {
        "nodeSelector": dict(sorted((site.node_selector or {}).items())),
        "tolerations": list(site.tolerations),
        "priorityClassName": site.priority_class,
        "imagePullSecrets": [
            {"name": name} for name in dict.fromkeys((*site.pull_secrets, *own.pull_secrets))
        ],
    }
    spec |= {name: value for name, value in optional.items() if value}
    # What we find our pods by is never another's to say.
    labels = {**dict(own.labels), **marks.of_role(run, replica.role)}
    noted = {"annotations": dict(own.annotations)} if own.annotations else {}
    return {"metadata": {"labels": dict(sorted(labels.items())), **noted}, "spec": spec}


def _container(
    run: runplan.RunPlan, replica: runplan.ReplicaPlan, site: PodSite, *, names: Mapping[str, str]
) -> meta.Document:
    own = run.pod or runplan.Pod()
    # Templates never change; what an elastic attempt tells new pods after a resize, this may.
    given = [*own.variables_from, *((names["secret"],) if run.elastic else ())]
    return {
        "name": CONTAINER,
        "image": site.image,
        "imagePullPolicy": site.pull_policy,
        "command": list(replica.argv),
        "workingDir": SCRATCH,
        "env": _environment(run, replica, names=names),
        **({"envFrom": [{"secretRef": {"name": name}} for name in given]} if given else {}),
        "resources": _resources(replica, site),
        "securityContext": {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePath": EXIT_FILE,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            *(json.loads(entry) for entry in own.mounts),
            {"name": "scratch", "mountPath": SCRATCH},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "memory", "mountPath": "/dev/shm"},
        ],
    }


def _volume(volume: meta.Document, site: PodSite) -> meta.Document:
    """Return a volume of a user; one that may grow for ever gets a limit."""
    if volume.get("emptyDir") == {}:
        return {**volume, "emptyDir": {"sizeLimit": str(site.scratch_bytes)}}
    return volume


def moving(run: runplan.RunPlan, replica: runplan.ReplicaPlan) -> dict[str, str]:
    """Return the variables that the Secret of an attempt gives beside the token."""
    fixed = (*PER_REPLICA, *PER_ROLE)
    return {name: value for name, value in replica.env if run.elastic and name not in fixed}


def _environment(
    run: runplan.RunPlan, replica: runplan.ReplicaPlan, *, names: Mapping[str, str]
) -> list[meta.Document]:
    index = {"fieldRef": {"fieldPath": f"metadata.annotations['{marks.INDEX}']"}}
    token = {"secretKeyRef": {"name": names["secret"], "key": TOKEN}}
    host = f"{names['job']}-$(QUINTILE_INDEX).{names['service']}"
    own = {
        "HOME": "/tmp",
        "QUINTILE_STATE_DIR": STATE,
        "QUINTILE_CACHE_DIR": CACHE,
        "QUINTILE_EXIT_FILE": EXIT_FILE,
    }
    elsewhere = {*PER_REPLICA, *moving(run, replica)}
    shared = {name: value for name, value in replica.env if name not in elsewhere}
    plain = {name: literal(value) for name, value in {**shared, **own}.items()}
    return [
        {"name": "QUINTILE_INDEX", "valueFrom": index},
        {"name": "QUINTILE_HOST", "value": host},
        {"name": TOKEN, "valueFrom": token},
        *({"name": name, "value": plain[name]} for name in sorted(plain)),
    ]


def literal(value: str) -> str:
    """Return a value that a pod hands on as it is: ``$`` begins a reference there."""
    return value.replace("$", "$$")


def _resources(replica: runplan.ReplicaPlan, site: PodSite) -> meta.Document:
    cpu = quantities.cpu_text(replica.cpu_millis or site.cpu_millis)
    memory = str(replica.memory_bytes or site.default_memory_bytes)
    limits: dict[str, str] = {}
    # What a run names is a limit too; what it leaves open is only what it is placed by.
    if replica.cpu_millis:
        limits["cpu"] = cpu
    if replica.memory_bytes:
        limits["memory"] = memory
    if replica.gpus:
        limits[site.gpu_resource] = str(replica.gpus)
    found: meta.Document = {"requests": {"cpu": cpu, "memory": memory}}
    return {**found, "limits": limits} if limits else found
