"""What must be true of a cluster before the operator can work: our kinds, and our rights.

``RIGHTS`` is what the operator needs and why; docs/operator.md shows it as a table, and the chart
grants it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from quintile import logs
from quintile.adapters import client_kube
from quintile.core import crd, errors, meta

_LOG: Final = logs.get(__name__)
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True)
class Right:
    """Verbs on a resource of a group ("" = core), and what for; in projects unless said."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    purpose: str
    where: str = "project"


READ: Final = ("get", "list", "watch")
RIGHTS: Final = (
    Right(meta.GROUP, "experiments", (*READ, "create", "patch"), "desired state; rounds"),
    Right(meta.GROUP, "trials", (*READ, "create", "patch"), "the runs of an Experiment"),
    Right(meta.GROUP, "labelingjobs", READ, "desired state"),
    Right(meta.GROUP, "experiments/status", ("patch",), "what was observed"),
    Right(meta.GROUP, "trials/status", ("patch",), "what was observed"),
    Right(meta.GROUP, "labelingjobs/status", ("patch",), "what was observed"),
    Right("batch", "jobs", (*READ, "create", "patch", "delete"), "the replicas of an attempt"),
    Right("", "pods", (*READ, "deletecollection"), "what became of the replicas; a hurried end"),
    Right("", "services", ("get", "create", "patch"), "names of the replicas"),
    Right("", "secrets", ("create", "patch", "delete"), "the token of an attempt"),
    Right(
        "networking.k8s.io",
        "networkpolicies",
        ("get", "create", "patch"),
        "what replicas may reach",
    ),
    Right(
        "", "events", ("get", "list", "create", "patch"), "notes for people; why a Job has no pods"
    ),
    Right(meta.GROUP, "queues", READ, "quotas", "cluster"),
    Right(meta.GROUP, "queues/status", ("patch",), "what a queue holds", "cluster"),
    Right(meta.GROUP, "clusterruntimes", READ, "images and limits", "cluster"),
    Right("coordination.k8s.io", "leases", ("get", "create", "patch"), "who leads", "own"),
)


class NoKinds(errors.NotFound):
    """The cluster does not know our kinds, or those of an older release."""


class NoRights(errors.Forbidden):
    """The operator may not do what it must."""


@dataclass(frozen=True)
class Scope:
    """Where the operator works: its projects (empty: the whole cluster), and where it lives."""

    namespaces: tuple[str, ...]
    own: str
    lease: str


@dataclass(frozen=True)
class Place:
    """Where a right is asked for: a namespace ("" = the cluster), and one object or any."""

    namespace: str
    name: str = ""


def check(client: client_kube.KubeClient, scope: Scope) -> None:
    """Check everything.

    Raises:
        NoKinds: A kind is missing or too old.
        NoRights: A right is missing; the message names every one.
        Unavailable: The API server is away.
    """
    check_kinds(client)
    missing = list(missing_rights(client, scope))
    if missing:
        raise NoRights(
            f"The operator may not {'; '.join(missing)}.",
            hint="Grant it what docs/operator.md lists; the chart does with rbac.create=true.",
        )


def check_kinds(client: client_kube.KubeClient) -> None:
    """Check that the cluster knows our kinds, and not those of an older release.

    Raises:
        NoKinds: It does not.
    """
    hint = "Install the chart quintile-crds of this release first."
    try:
        found = client.get(f"/apis/{meta.API_VERSION}")["resources"]
    except errors.NotFound as error:
        text = f"The cluster does not know {meta.API_VERSION}."
        raise NoKinds(text, hint=hint) from error
    known = {entry["name"] for entry in found}
    missing = [kind.plural for kind in crd.KINDS if kind.plural not in known]
    if missing:
        raise NoKinds(f"The cluster does not know {', '.join(missing)}.", hint=hint)
    for kind in crd.KINDS:
        _check_revision(client, kind.plural, hint=hint)


def missing_rights(client: client_kube.KubeClient, scope: Scope) -> Iterator[str]:
    """Yield what the operator may not do, as ``patch trials/status in team-a``."""
    for right in RIGHTS:
        for namespace in _namespaces(right, scope):
            place = Place(namespace, scope.lease if right.where == "own" else "")
            denied = [verb for verb in right.verbs if not _may(client, right, verb, place)]
            if denied:
                where = f" in {namespace}" if namespace else " in the cluster"
                yield f"{', '.join(denied)} {right.resource}{where}"


def _check_revision(client: client_kube.KubeClient, plural: str, *, hint: str) -> None:
    name = f"{plural}.{meta.GROUP}"
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
    try:
        found = client.get(path)
    except errors.Forbidden:
        _LOG.debug("the revision of a CRD cannot be read", name=name)
        return
    said = (found["metadata"].get("annotations") or {}).get(crd.REVISION_KEY, "0")
    if not said.isdigit() or int(said) < crd.REVISION:
        raise NoKinds(
            f"The CRD {name} is of revision {said}, this operator needs {crd.REVISION}.",
            hint=hint,
        )


def _namespaces(right: Right, scope: Scope) -> Sequence[str]:
    if right.where == "cluster":
        return ("",)
    return (scope.own,) if right.where == "own" else scope.namespaces or ("",)


def _may(client: client_kube.KubeClient, right: Right, verb: str, place: Place) -> bool:
    resource, _, subresource = right.resource.partition("/")
    asked = {
        "verb": verb,
        "group": right.group,
        "resource": resource,
        "subresource": subresource,
        "namespace": place.namespace,
        # Nobody can create by name; the rest may be granted for one object alone.
        "name": place.name if verb != "create" else "",
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {key: value for key, value in asked.items() if value}},
    }
    return bool(client.create(_REVIEWS, body)["status"].get("allowed"))


def table() -> str:
    """Return ``RIGHTS`` as the table of docs/operator.md."""
    lines = ["| group | resource | verbs | where | what for |", "|---|---|---|---|---|"]
    for right in RIGHTS:
        group = right.group or "core"
        verbs = ", ".join(right.verbs)
        lines.append(f"| {group} | {right.resource} | {verbs} | {right.where} | {right.purpose} |")
    return "\n".join(lines)
