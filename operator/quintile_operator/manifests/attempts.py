"""All objects of one attempt: Secret, NetworkPolicy, headless Service, one Indexed Job per role.

Called by ``quintile_operator.executor_kubernetes``. How many there are depends on the number of
roles alone, not on that of replicas. Policy and Service are shared by the attempts of a trial.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Final

from quintile.core import errors, meta, names, runplan
from quintile_operator.manifests import marks, pods

NO_BUDGET: Final = 2**31 - 1
"""The budget of restarts lives in the status of the Trial alone."""

ONCE: Final[meta.Document] = {"backoffLimitPerIndex": 0}
"""The pod of an index is made once."""

YIELDED: Final = 75
"""Exit code of an agent that was asked to leave: its state is saved."""

LISTED = {"Secret": "secrets", "Service": "services", "NetworkPolicy": "networkpolicies"}
ROOTS = {"Secret": "/api/v1", "Service": "/api/v1", "Job": "/apis/batch/v1"}
SERVICE: Final = "pods"
SECRET: Final = "token"
POLICY: Final = "net"


def documents(run: runplan.RunPlan, site: pods.PodSite) -> tuple[meta.Document, ...]:
    """Return the objects in the order in which they are made; equal plans give equal objects.

    Raises:
        InvalidSpec: Replicas of one role differ in more than index and host.
    """
    site = pods.site_of(run, site)
    shared = (secret(run), *((policy(run, site),) if site.network_policies else ()), service(run))
    return (*shared, *(job(run, site, role) for role in roles(run)))


def roles(run: runplan.RunPlan) -> tuple[str, ...]:
    """Return the roles of a plan in its order."""
    return tuple(dict.fromkeys(replica.role for replica in run.replicas))


def job_name(run: runplan.RunPlan, role: str) -> str:
    """Return the name of the Job of a role."""
    return names.cluster_child(run.trial, uid=run.trial_uid, attempt=run.attempt, part=role)


def addresses(run: runplan.RunPlan) -> dict[str, str]:
    """Return host by replica name, as pods of the namespace resolve it."""
    subdomain = _service_name(run)
    return {
        replica.name: f"{job_name(run, replica.role)}-{replica.index}.{subdomain}"
        for replica in run.replicas
    }


def path(document: meta.Document, *, named: bool = True) -> str:
    """Return where an object lies at the API server, or its collection."""
    kind, place = document["kind"], document["metadata"]
    root = ROOTS.get(kind, "/apis/networking.k8s.io/v1")
    whole = f"{root}/namespaces/{place['namespace']}/{LISTED.get(kind, 'jobs')}"
    return f"{whole}/{place['name']}" if named else whole


def secret(run: runplan.RunPlan) -> meta.Document:
    """Return the Secret with the token of the attempt, and what an elastic one tells new pods."""
    told = {pods.TOKEN: run.token, **pods.moving(run, run.replicas[0])}
    labels = {**marks.of_trial(run), marks.ATTEMPT: str(run.attempt)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": marks.metadata(run, SECRET, attempt=run.attempt, labels=labels),
        "immutable": not run.elastic,
        "data": {
            name: base64.b64encode(value.encode()).decode() for name, value in sorted(told.items())
        },
    }


def policy(run: runplan.RunPlan, site: pods.PodSite) -> meta.Document:
    """Return the NetworkPolicy: pods of a trial reach each other, and what the admin allows."""
    own = {"podSelector": {"matchLabels": {marks.TRIAL_UID: run.trial_uid}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": marks.metadata(run, POLICY, attempt=None, labels=marks.of_trial(run)),
        "spec": {
            **own,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [own]}],
            "egress": [{"to": [own]}, *site.egress],
        },
    }


def service(run: runplan.RunPlan) -> meta.Document:
    """Return the headless Service that gives the pods of a trial their names."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": marks.metadata(run, SERVICE, attempt=None, labels=marks.of_trial(run)),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {marks.TRIAL_UID: run.trial_uid},
        },
    }


def job(run: runplan.RunPlan, site: pods.PodSite, role: str) -> meta.Document:
    """Return the Indexed Job of a role.

    The Job of a fixed attempt makes every pod once: what follows its end is the reconciler's to
    say. That of an elastic one makes pods again whose agents are lost, failed or asked to leave.
    """
    replicas = [replica for replica in run.replicas if replica.role == role]
    _check_alike(replicas)
    own = {
        "job": job_name(run, role),
        "service": _service_name(run),
        "secret": names.cluster_child(
            run.trial, uid=run.trial_uid, attempt=run.attempt, part=SECRET
        ),
    }
    # No rule that ignores an end goes with a limit per index: a pod that is to be replaced keeps
    # its finalizer until it is; in a namespace that is being deleted that would be for ever.
    ends = {"podFailurePolicy": {"rules": _replaced()}} if run.elastic else ONCE
    spec = {
        "completionMode": "Indexed",
        "completions": len(replicas),
        "parallelism": len(replicas),
        "backoffLimit": NO_BUDGET,
        **ends,
        "podReplacementPolicy": "Failed",
        "suspend": False,
        "ttlSecondsAfterFinished": site.ended_ttl_s,
        "template": pods.template(run, replicas[0], site, names=own),
    }
    labels = marks.of_role(run, role)
    place = marks.metadata(run, role, attempt=run.attempt, labels=labels)
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": place, "spec": spec}


def _replaced() -> list[meta.Document]:
    """Return the ends of a pod that do not count as failures, as rules of the Job."""
    asked = {"containerName": pods.CONTAINER, "operator": "In", "values": [YIELDED]}
    return [
        {
            "action": "Ignore",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        },
        {"action": "Ignore", "onExitCodes": asked},
    ]


def _service_name(run: runplan.RunPlan) -> str:
    return names.cluster_child(run.trial, uid=run.trial_uid, attempt=None, part=SERVICE)


def _check_alike(replicas: list[runplan.ReplicaPlan]) -> None:
    first = replicas[0]
    for position, replica in enumerate(replicas):
        if replica.index != position:
            raise errors.InvalidSpec(
                f"{replica.name} has index {replica.index}; expected {position}.",
                hint="Replicas of a role are numbered from 0 without gaps.",
            )
        if _shape(replica) != _shape(first):
            raise errors.InvalidSpec(
                f"{replica.name} differs from {first.name} in more than index and host.",
                hint="Replicas of a role are pods of one template.",
            )


def _shape(replica: runplan.ReplicaPlan) -> tuple[object, ...]:
    return (tuple(_shared(replica)), replica.argv, *_limits(replica))


def _shared(replica: runplan.ReplicaPlan) -> Iterator[tuple[str, str]]:
    yield from (pair for pair in replica.env if pair[0] not in pods.PER_REPLICA)


def _limits(replica: runplan.ReplicaPlan) -> tuple[int, int, int]:
    return (replica.cpu_millis, replica.memory_bytes, replica.gpus)
