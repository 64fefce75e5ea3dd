"""The executor on a cluster keeps the contract of executors, in pods that pass ``restricted``."""

from __future__ import annotations

import functools
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from quintile import ports
from quintile.adapters import client_kube, clock
from quintile.core import errors, meta
from quintile.testing import clusters, elastic_contract, executor_contract
from quintile_operator import executor_kubernetes
from quintile_operator.manifests import attempts, marks, pods

AGENT = ("python", "-m", "quintile.testing.fake_agent")
PATIENCE_S = 90.0
LONELY = "quintile.dev/test"
"""Taint that keeps pods of others off a node of ours."""

TRIAL_SPEC = {
    "experiment": "digits",
    "experimentUid": "e",
    "template": {"estimator": {"builtin": {"model": "resnet8"}}},
}


@dataclass(frozen=True)
class Project:
    """A namespace for tests."""

    kube: client_kube.KubeClient
    name: str

    def executor(self, **changes: Any) -> executor_kubernetes.KubernetesExecutor:
        words: dict[str, Any] = {"network_policies": False, "cpu_millis": 0, **changes}
        site = pods.PodSite(image=clusters.image(), **words)
        return executor_kubernetes.KubernetesExecutor(
            self.kube, site, clock=clock.SystemClock(), namespaces=(self.name,)
        )

    def make_trial(self) -> str:
        """Make the trial anew; return its uid."""
        path = f"/apis/quintile.dev/v1alpha1/namespaces/{self.name}/trials"
        self.kube.delete(f"{path}/{executor_contract.NAME}")
        document = {
            "apiVersion": meta.API_VERSION,
            "kind": "Trial",
            "metadata": {"name": executor_contract.NAME},
            "spec": TRIAL_SPEC,
        }
        return str(self.kube.create(path, document)["metadata"]["uid"])


class PodHand(executor_contract.Hand):
    """Real pods of a fake agent."""

    patience_s = PATIENCE_S

    def __init__(self, project: Project) -> None:
        self.project = project
        self.pods = project.executor()
        self.executor: ports.Executor = self.pods
        self.site = executor_contract.Site(project.name, project.make_trial(), AGENT)

    def run(self, uid: str) -> None:
        super().run(uid)
        # The first process of a pod ignores signals until it has said what to do with them.
        for seen in self.executor.observe(uid):
            self.until(functools.partial(self._speaks, uid, seen.attempt, seen.name))

    def _speaks(self, uid: str, attempt: int, name: str) -> bool:
        return bool(b"".join(self.executor.logs(uid, attempt=attempt, name=name)))

    def finish(self, uid: str, name: str) -> None:
        self._send(uid, name, "USR1")

    def lose(self, uid: str, name: str) -> None:
        self._send(uid, name, "ALRM")

    def replace_trial(self) -> str:
        return self.project.make_trial()

    def end(self) -> None:
        for uid in self.pods.trials():
            self.pods.delete(uid)
        self.until(lambda: not self.pods.trials())
        self.pods.close()
        # What was given an hour, and then none, may have become stuck on its node.
        path = f"/api/v1/namespaces/{self.project.name}/pods?labelSelector={marks.OURS}"
        self.project.kube.delete(path, grace_s=0)

    def pod(self, uid: str, name: str) -> meta.Document:
        """The newest pod of a replica."""
        index = name.rpartition("-")[2]
        labels = f"quintile.dev/trial-uid={uid},batch.kubernetes.io/job-completion-index={index}"
        path = f"/api/v1/namespaces/{self.project.name}/pods"
        items = self.project.kube.get(path, labelSelector=labels)["items"]
        return max(items, key=lambda one: one["metadata"]["creationTimestamp"])

    def _send(self, uid: str, name: str, signal: str) -> None:
        pod = self.pod(uid, name)["metadata"]["name"]
        words = ["kubectl", "--namespace", self.project.name, "exec", pod, "--"]
        code = f"import os, signal; os.kill(1, signal.SIG{signal})"
        subprocess.run([*words, "python", "-c", code], capture_output=True, check=False)


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    clusters.image()
    kube = clusters.client()
    with clusters.namespaces(kube, "executor") as (name,):
        clusters.prepare(kube, name)
        yield Project(kube, name)


@pytest.fixture
def hand(project: Project) -> Iterator[PodHand]:
    made = PodHand(project)
    yield made
    made.end()


class TestPods(executor_contract.Contract, elastic_contract.ElasticContract):
    pass


def written(project: Project, uid: str) -> dict[str, str]:
    """The versions of all objects of a trial."""
    labels = f"quintile.dev/trial-uid={uid}"
    found = {}
    for root, plural in (
        ("/api/v1", "secrets"),
        ("/api/v1", "services"),
        ("/apis/networking.k8s.io/v1", "networkpolicies"),
    ):
        path = f"{root}/namespaces/{project.name}/{plural}"
        for item in project.kube.get(path, labelSelector=labels)["items"]:
            found[f"{plural}/{item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
    return found


def test_ensuring_what_is_there_writes_nothing(project: Project, hand: PodHand) -> None:
    calls = Counting(project.kube)
    site = pods.PodSite(image=clusters.image(), network_policies=False, cpu_millis=0)
    executor = executor_kubernetes.KubernetesExecutor(
        calls, site, clock=clock.SystemClock(), namespaces=(project.name,)
    )
    executor.ensure(hand.plan(workers=3))
    assert calls.writes == 3  # Secret, Service, Job: not one more for three replicas
    hand.run(hand.site.uid)
    before = written(project, hand.site.uid)
    executor.ensure(hand.plan(workers=3))
    again = hand.project.executor()
    again.ensure(hand.plan(workers=3))
    assert (calls.writes, written(project, hand.site.uid)) == (3, before)
    for one in (executor, again):
        one.close()


class Counting(client_kube.KubeClient):
    """A client that counts what it writes."""

    def __init__(self, kube: client_kube.KubeClient) -> None:
        vars(self).update(vars(kube))
        self.writes = 0

    def _send(self, method: str, *rest: Any, **more: Any) -> Any:
        self.writes += method != "GET"
        return super()._send(method, *rest, **more)


@pytest.mark.parametrize("kind", ["Secret", "Service", "Job"])
def test_a_name_that_somebody_else_has_is_left_alone(
    project: Project, hand: PodHand, kind: str
) -> None:
    plan = hand.plan(workers=1)
    site = pods.PodSite(image=clusters.image(), network_policies=False)
    own = next(found for found in attempts.documents(plan, site) if found["kind"] == kind)
    foreign = {**own, "metadata": {"name": own["metadata"]["name"]}}
    if kind == "Job":
        foreign["spec"] = {**own["spec"], "suspend": True}
    before = project.kube.create(attempts.path(own, named=False), foreign)
    with pytest.raises(errors.Blocked, match="somebody else") as caught:
        hand.executor.ensure(plan)
    assert caught.value.reason == "NameTaken"
    after = project.kube.get(attempts.path(own))
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"].get("labels") == before["metadata"].get("labels")
    project.kube.delete(attempts.path(own))
    hand.until(lambda: _ensured(hand))
    hand.run(hand.site.uid)


def _ensured(hand: PodHand) -> bool:
    try:
        hand.executor.ensure(hand.plan(workers=1))
    except (errors.Unavailable, errors.Conflict):
        return False
    return True


def test_what_an_operator_left_half_done_is_finished(project: Project, hand: PodHand) -> None:
    plan = hand.plan(workers=1)
    for document in (attempts.secret(plan), attempts.service(plan)):
        project.kube.create(attempts.path(document, named=False), document)
    hand.executor.ensure(plan)
    hand.run(hand.site.uid)


def test_everything_goes_with_the_trial(project: Project, hand: PodHand) -> None:
    hand.executor.ensure(hand.plan())
    hand.run(hand.site.uid)
    uid = hand.site.uid
    assert len(written(project, uid)) == 2
    path = f"/apis/quintile.dev/v1alpha1/namespaces/{project.name}/trials"
    project.kube.delete(f"{path}/{executor_contract.NAME}")
    hand.until(lambda: not written(project, uid) and uid not in hand.executor.trials())


def test_a_pod_that_is_deleted_by_hand_has_left(project: Project, hand: PodHand) -> None:
    hand.executor.ensure(hand.plan(workers=1))
    hand.run(hand.site.uid)
    pod = hand.pod(hand.site.uid, hand.plan().replicas[0].name)["metadata"]["name"]
    heard: list[meta.Key] = []
    hand.pods.subscribe(heard.append)
    seen = []

    def has_left() -> bool:
        seen.extend(hand.executor.observe(hand.site.uid))
        return any(entry.exit_code == 75 for entry in seen)

    project.kube.delete(f"/api/v1/namespaces/{project.name}/pods/{pod}")
    hand.until(has_left)
    assert heard[0] == hand.site.key


@pytest.fixture
def silent_node(project: Project) -> Iterator[str]:
    """A node that no kubelet speaks for."""
    name = f"quintile-test-{secrets.token_hex(3)}"
    room = {"cpu": "4", "memory": "4Gi", "pods": "10"}
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"taints": [{"key": LONELY, "effect": "NoSchedule"}]},
    }
    project.kube.create("/api/v1/nodes", node)
    status = {"capacity": room, "allocatable": room, "conditions": [ready]}
    project.kube.patch(f"/api/v1/nodes/{name}/status", {"status": status})
    yield name
    project.kube.delete(f"/api/v1/nodes/{name}")


def test_a_pod_of_a_lost_node_is_lost_and_holds_nobody_up(
    project: Project, hand: PodHand, silent_node: str
) -> None:
    there = project.executor(
        node_selector={"kubernetes.io/hostname": silent_node},
        tolerations=({"key": LONELY, "operator": "Exists"},),
    )
    uid, plan = hand.site.uid, hand.plan(workers=1)
    there.ensure(plan)
    name = plan.replicas[0].name
    pods_path = f"/api/v1/namespaces/{project.name}/pods"

    def is_bound() -> bool:
        found = project.kube.get(pods_path, labelSelector=marks.selector(uid))["items"]
        return any(pod["spec"].get("nodeName") for pod in found)

    hand.until(is_bound)
    pod = hand.pod(uid, name)["metadata"]["name"]
    running = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    container = {"name": pods.CONTAINER, "image": "x", "imageID": "x", "ready": True}
    container |= {"restartCount": 0, "state": running}
    status = {"phase": "Running", "containerStatuses": [container]}
    project.kube.patch(f"{pods_path}/{pod}/status", {"status": status})
    hand.until(lambda: executor_contract.states(there, uid) == ["running"])
    project.kube.delete(f"{pods_path}/{pod}", grace_s=1)
    hand.until(lambda: there.observe(uid)[0].state != "running")
    (seen,) = there.observe(uid)
    assert (seen.state, seen.reason) == ("lost", "NodeLost")
    assert silent_node in seen.message
    there.delete(uid, attempt=1)
    assert there.observe(uid) == () and uid not in there.trials()
    assert hand.pod(uid, name)["metadata"]["name"] == pod  # nobody can end it
    hand.executor.ensure(hand.plan(2, workers=1))
    hand.run(uid)
    there.close()


KNOCK = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 7777), timeout=3)
except ConnectionRefusedError:
    print("reached")  # nobody listens there, but the way is open
except OSError:
    print("cut off")
"""


def test_only_pods_of_a_trial_reach_its_pods(project: Project, hand: PodHand) -> None:
    egress = ({"ports": [{"protocol": "UDP", "port": 53}]},)
    guarded = project.executor(network_policies=True, egress=egress)
    plan = hand.plan()
    guarded.ensure(plan)
    hand.run(hand.site.uid)
    first, second = (hand.pod(hand.site.uid, replica.name) for replica in plan.replicas)
    template = dict(first["spec"])
    container = {**template["containers"][0], "command": ["sleep", "600"], "env": []}
    stranger = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"}}
    kept = ("securityContext", "serviceAccountName", "automountServiceAccountToken", "volumes")
    spec = {name: template[name] for name in kept if name in template}
    stranger["spec"] = {**spec, "containers": [container], "terminationGracePeriodSeconds": 0}
    path = f"/api/v1/namespaces/{project.name}/pods"
    project.kube.create(path, stranger)

    def knocks(name: str) -> str:
        words = ["kubectl", "--namespace", project.name, "exec", name, "--"]
        words += ["python", "-c", KNOCK, second["status"]["podIP"]]
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()

    hand.until(lambda: knocks("stranger") == "cut off")
    assert knocks(first["metadata"]["name"]) == "reached"
    project.kube.delete(f"{path}/stranger", grace_s=0)
    guarded.close()


def test_a_namespace_is_deleted_while_agents_run() -> None:
    clusters.image()
    kube = clusters.client()
    with clusters.namespaces(kube, "gone") as (name,):
        clusters.prepare(kube, name)
        hand = PodHand(Project(kube, name))
        hand.executor.ensure(hand.plan())
        hand.run(hand.site.uid)

    def is_gone() -> bool:
        try:
            return not kube.get(f"/api/v1/namespaces/{name}")
        except errors.NotFound:
            return True

    hand.until(is_gone)
    hand.pods.close()
