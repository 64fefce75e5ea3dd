"""An account with the rights of the manual, and none beside, can do all that the operator does."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from quintile.adapters import client_kube, clock, events_kube, lease_kube, resource_kube
from quintile.core import experiment, meta, plan, runplan
from quintile.testing import clusters, waiting
from quintile_operator import executor_kubernetes, preflight
from quintile_operator.manifests import attempts, pods

RBAC = "/apis/rbac.authorization.k8s.io/v1"
LEASE = "quintile-operator"
EGRESS: meta.Document = {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}


def rules(where: str) -> list[dict[str, Any]]:
    return [
        {"apiGroups": [right.group], "resources": [right.resource], "verbs": list(right.verbs)}
        for right in preflight.RIGHTS
        if right.where in where
    ]


def bind(kube: client_kube.KubeClient, namespace: str) -> None:
    """Grant an account of the namespace what ``RIGHTS`` says, there and in the cluster."""
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": namespace}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator"}}
    kube.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    for kind, path, granted in (
        ("Role", f"{RBAC}/namespaces/{namespace}/", rules("project own")),
        ("ClusterRole", f"{RBAC}/", rules("cluster")),
    ):
        head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": namespace}}
        plural = f"{kind.lower()}s"
        kube.create(path + plural, {**head, "kind": kind, "rules": granted})
        binding = {
            **head,
            "kind": f"{kind}Binding",
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": kind,
                "name": namespace,
            },
            "subjects": [subject],
        }
        kube.create(f"{path}{kind.lower()}bindings", binding)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[client_kube.KubeClient, str]]:
    """A client of an account with those rights alone, and its namespace."""
    kube = clusters.client()
    with clusters.namespaces(kube, "rights") as (namespace,):
        bind(kube, namespace)
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/operator/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = kube.create(path, asked)["status"]["token"]
        config = yaml.safe_load(pathlib.Path(os.environ["KUBECONFIG"]).read_text())
        for user in config["users"]:
            user["user"] = {"token": token}
        file = tmp_path_factory.mktemp("rights") / "kubeconfig"
        file.write_text(yaml.safe_dump(config))
        try:
            yield client_kube.load(agent="quintile-operator", kubeconfig=str(file)), namespace
        finally:
            kube.delete(f"{RBAC}/clusterroles/{namespace}")
            kube.delete(f"{RBAC}/clusterrolebindings/{namespace}")


def test_the_operator_finds_its_rights_complete(place: tuple[client_kube.KubeClient, str]) -> None:
    client, namespace = place
    waiting.until(
        lambda: (
            not list(
                preflight.missing_rights(client, preflight.Scope((namespace,), namespace, LEASE))
            )
        )
    )
    preflight.check_kinds(client)


def test_resources_events_and_the_lease_can_be_written(
    place: tuple[client_kube.KubeClient, str],
) -> None:
    client, namespace = place
    parent, trial = made(client, namespace, "digits")
    store = resource_kube.KubeResourceStore(client, (namespace,))
    for document in (parent, trial):
        uid = document["metadata"]["uid"]
        store.patch_status(meta.key_of(document), {"phase": "Running"}, uid=uid)
    assert [store.list(kind).items for kind in ("LabelingJob", "Queue", "ClusterRuntime")]
    sink = events_kube.KubeEventSink(client, clock.SystemClock(), "quintile-operator")
    uid = str(trial["metadata"]["uid"])
    event = runplan.Event("Trial", namespace, "digits-t0", uid, "Normal", "Started", "once")
    sink.emit(event)
    sink.emit(event)
    again = events_kube.KubeEventSink(client, clock.SystemClock(), "quintile-operator")
    again.emit(event)
    assert [view.count for view in again.events(namespace)] == [3]
    lease = lease_kube.KubeLease(client, namespace=namespace, name=LEASE)
    first = lease.write("a", lasts_s=15, before=lease.read())
    assert lease.write("b", lasts_s=15, before=first).transitions == 1


def test_an_attempt_can_be_made_taken_over_and_ended(
    place: tuple[client_kube.KubeClient, str],
) -> None:
    client, namespace = place
    _, trial = made(client, namespace, "cats")
    run = plan.plan_trial(
        experiment.Trial.model_validate(trial),
        attempt=1,
        api_url="http://quintile.example.com",
        python="python",
        token="a token",
        hosts={},
    )
    site = pods.PodSite(image="quintile.invalid/none:0", egress=(EGRESS,))
    executor = executor_kubernetes.KubernetesExecutor(
        client, site, clock=clock.SystemClock(), namespaces=(namespace,)
    )
    try:
        executor.ensure(run)
        job = next(d for d in attempts.documents(run, site) if d["kind"] == "Job")
        # As after a crash between the Secret and the Job.
        client.delete(attempts.path(job))
        waiting.until(lambda: executor.trials() == {})
        executor.ensure(run)
        assert [replica.state for replica in executor.observe(run.trial_uid)] == ["pending"]
        executor.delete(run.trial_uid)
        waiting.until(lambda: executor.trials() == {})
    finally:
        executor.close()


def made(
    client: client_kube.KubeClient, namespace: str, name: str
) -> tuple[meta.Document, meta.Document]:
    """An Experiment and its Trial, written by the account itself."""
    store = resource_kube.KubeResourceStore(client, (namespace,))
    parent = {
        "kind": "Experiment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"estimator": {"builtin": {"model": "resnet8"}}},
    }
    held = waiting.until(lambda: store.apply(parent, manager=resource_kube.OPERATOR))
    owner = {"kind": "Experiment", "name": name, "uid": held["metadata"]["uid"]}
    child = {
        "kind": "Trial",
        "metadata": {"name": f"{name}-t0", "namespace": namespace, "ownerReferences": [owner]},
        "spec": {
            "experiment": name,
            "experimentUid": owner["uid"],
            "template": held["spec"],
        },
    }
    return held, store.apply(child, manager=resource_kube.OPERATOR)
