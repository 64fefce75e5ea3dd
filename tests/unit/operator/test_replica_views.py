"""What pods and Jobs say of replicas, document by document as the API server writes them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from quintile.core import conditions, meta, runplan
from quintile_operator import cluster_views, replica_views
from quintile_operator.manifests import marks

NOW_S = conditions.seconds("2026-01-01T12:00:00Z")
LABELS = {
    marks.TRIAL: "digits-t0",
    marks.TRIAL_UID: "u",
    marks.ATTEMPT: "1",
    marks.ROLE: "worker",
    marks.MANAGED_BY: marks.OPERATOR,
}


def at(seconds: float) -> str:
    return conditions.timestamp(NOW_S + seconds)


def job(completions: int = 1, **changes: Any) -> cluster_views.JobView:
    document = {
        "metadata": {
            "name": "job",
            "namespace": "team",
            "uid": "job-uid",
            "labels": LABELS,
            "creationTimestamp": at(-100),
            "ownerReferences": [{"uid": "u"}],
            **changes.pop("metadata", {}),
        },
        "spec": {"completions": completions, "backoffLimitPerIndex": 0, **changes.pop("spec", {})},
        "status": changes,
    }
    found = cluster_views.job(document)
    assert found is not None
    return found


def pod(
    status: meta.Document | None = None, *, index: int = 0, name: str = "pod", **metadata: Any
) -> cluster_views.PodView:
    labels = {**LABELS, marks.INDEX: str(index), "batch.kubernetes.io/controller-uid": "job-uid"}
    place = {
        "name": name,
        "namespace": "team",
        "uid": name,
        "creationTimestamp": at(-50),
        "labels": labels,
        **metadata,
    }
    document = {"metadata": place, "spec": {"nodeName": "node1"}, "status": status or {}}
    found = cluster_views.pod(document)
    assert found is not None
    return found


def with_state(phase: str, state: meta.Document, **status: Any) -> meta.Document:
    return {"phase": phase, "containerStatuses": [{"name": "agent", "state": state}], **status}


def ended(code: int, *, reason: str = "Error", message: str = "", **status: Any) -> meta.Document:
    phase = "Succeeded" if code == 0 else "Failed"
    terminated = {"exitCode": code, "reason": reason, "message": message}
    return with_state(phase, {"terminated": terminated}, **status)


def record(code: int, reason: str, message: str = "") -> str:
    return json.dumps({"exit_code": code, "reason": reason, "message": message})


def seen(*found: cluster_views.PodView, of: cluster_views.JobView | None = None) -> Any:
    replicas = tuple(replica_views.replicas(of or job(), found, now_s=NOW_S))
    assert len(replicas) == 1
    return replicas[0]


def brief(found: runplan.ObservedReplica) -> tuple[str, int | None, str]:
    return found.state, found.exit_code, found.reason


RUNNING = with_state("Running", {"running": {}})


@pytest.mark.parametrize(
    ("status", "expected", "words"),
    [
        ({}, ("pending", None, ""), ""),
        (with_state("Pending", {"waiting": {"reason": "ContainerCreating"}}),
         ("pending", None, ""), ""),
        (RUNNING, ("running", None, ""), ""),
        (ended(0, reason="Completed", message=record(0, "Completed")),
         ("exited", 0, "Completed"), ""),
        (ended(0, reason="Completed"), ("exited", 0, "Completed"), ""),
        (ended(1, message=record(1, "UserError", "ValueError: no")),
         ("exited", 1, "UserError"), "ValueError: no"),
        (ended(137, reason="OOMKilled"), ("exited", 137, "OutOfMemory"), "killed for memory"),
        (ended(137), ("lost", None, "AgentLost"), "left no exit record"),
        (ended(139, message="a\nlast line\n"), ("lost", None, "AgentLost"), "last line"),
        (ended(128, reason="StartError", message="exec: no such file"),
         ("exited", 128, "StartError"), "no such file"),
        ({"phase": "Failed", "reason": "Evicted", "message": "Usage of EmptyDir volume exceeds"},
         ("exited", 137, "DiskFull"), "EmptyDir"),
        ({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"},
         ("exited", 137, "Evicted"), "low on memory"),
        ({"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no device"},
         ("lost", None, "UnexpectedAdmissionError"), "no device"),
        (with_state("Pending", {"waiting": {"reason": "ImagePullBackOff",
                                            "message": 'Back-off pulling image "x:1": '
                                                       "ErrImagePull: not found"}}),
         ("pending", None, "ImagePullFailed"), "not found"),
        (with_state("Pending", {"waiting": {"reason": "ErrImagePull", "message": "not found"}}),
         ("pending", None, "ImagePullFailed"), "not found"),
        (with_state("Pending", {"waiting": {"reason": "CreateContainerConfigError",
                                            "message": 'secret "s" not found'}}),
         ("pending", None, "PodConfigFailed"), 'secret "s"'),
        ({"phase": "Pending",
          "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                          "message": "0/1 nodes", "lastTransitionTime": at(-5)}]},
         ("pending", None, "Unschedulable"), "0/1 nodes"),
    ],
)  # fmt: skip
def test_a_pod_says_how_its_replica_is(
    status: meta.Document, expected: tuple[str, int | None, str], words: str
) -> None:
    found = seen(pod(status))
    assert brief(found) == expected
    assert words in found.message
    assert (found.name, found.role, found.index) == ("digits-t0-a1-worker-0", "worker", 0)


def test_both_ways_in_which_an_image_fails_read_alike() -> None:
    again = {
        "reason": "ImagePullBackOff",
        "message": 'Back-off pulling image "x": ErrImagePull: no',
    }
    once = {"reason": "ErrImagePull", "message": "no"}
    first, second = (seen(pod(with_state("Pending", {"waiting": w}))) for w in (again, once))
    assert first == second


def test_who_is_made_to_leave_ends_the_attempt_uncounted() -> None:
    drained = {"type": "DisruptionTarget", "status": "True", "message": "drained"}
    left = pod(ended(75, message=record(75, "Preempted")))
    killed = pod(ended(137, conditions=[drained]))
    for found in (left, killed):
        assert brief(seen(found)) == ("exited", 75, "Preempted")
    assert seen(killed).message == "drained"
    finished = pod(ended(0, message=record(0, "Completed"), conditions=[drained]))
    assert brief(seen(finished)) == ("exited", 0, "Completed")


def test_who_is_deleted_and_outlives_its_grace_was_made_to_leave() -> None:
    killed = pod(ended(137), deletionTimestamp=at(-1))
    assert brief(seen(killed)) == ("exited", 75, "Preempted")
    assert "did not end within its grace" in seen(killed).message
    hungry = pod(ended(137, reason="OOMKilled"), deletionTimestamp=at(-1))
    assert seen(hungry).reason == "OutOfMemory"
    assert seen(pod(ended(137))).reason == "AgentLost"
    assert (
        seen(pod(ended(70, message=record(70, "DiskFull")), deletionTimestamp=at(-1))).reason
        == "DiskFull"
    )


def test_the_pod_of_an_elastic_attempt_is_made_again_and_the_newest_counts() -> None:
    elastic = dataclasses.replace(job(), elastic=True)
    left = pod(ended(75, message=record(75, "Preempted")), name="first")
    newer = pod(RUNNING, name="second", creationTimestamp=at(-1))
    assert brief(seen(left, of=elastic)) == ("pending", None, "Disrupted")
    assert brief(seen(left, newer, of=elastic)) == ("running", None, "")
    assert brief(seen(newer, left, of=elastic)) == ("running", None, "")


def test_members_that_a_resize_leaves_out_are_seen_until_they_are_gone() -> None:
    elastic = dataclasses.replace(job(), elastic=True)
    found = [pod(RUNNING), pod(RUNNING, index=1, name="b"), pod(ended(75), index=2, name="c")]
    seen_now = list(replica_views.replicas(elastic, found, now_s=NOW_S))
    assert [(entry.index, entry.state) for entry in seen_now] == [(0, "running"), (1, "running")]


def test_an_attempt_that_gave_its_nodes_back_is_over_when_agents_had_begun() -> None:
    left = pod(ended(75, message=record(75, "Preempted")))
    held = dataclasses.replace(job(failedIndexes="0"), suspended=True, words="0/1 nodes")
    assert brief(seen(of=held)) == ("pending", None, "Unschedulable")
    assert brief(seen(left, of=held)) == ("pending", None, "Unschedulable")
    again = dataclasses.replace(held, suspended=False)
    assert brief(seen(of=again)) == ("exited", 75, "Preempted")


@pytest.mark.parametrize(("since_s", "state"), [(-29.0, "running"), (-30.0, "lost")])
def test_a_pod_that_does_not_end_is_lost_after_its_grace(since_s: float, state: str) -> None:
    found = pod(RUNNING, deletionTimestamp=at(since_s))
    assert seen(found).state == state
    assert replica_views.due_s(found) == NOW_S + since_s + replica_views.LOST_MARGIN_S


@pytest.mark.parametrize(("since_s", "state"), [(-59.0, "running"), (-60.0, "lost")])
def test_a_node_that_is_silent_loses_its_pods(since_s: float, state: str) -> None:
    told = [
        {"type": "Ready", "status": "False", "lastTransitionTime": at(since_s)},
        {"type": "ContainersReady", "status": "True", "lastTransitionTime": at(-100)},
    ]
    found = seen(pod({**RUNNING, "conditions": told}))
    assert found.state == state
    assert found.reason == ("NodeLost" if state == "lost" else "")


def test_an_index_without_a_pod_is_what_its_job_says() -> None:
    assert brief(seen()) == ("pending", None, "")
    assert brief(seen(of=job(completedIndexes="0"))) == ("exited", 0, "Completed")
    assert brief(seen(of=job(failedIndexes="0"))) == ("lost", None, "PodGone")
    failed = [{"type": "Failed", "status": "True", "message": "no quota"}]
    assert brief(seen(of=job(conditions=failed))) == ("pending", None, "PodNotMade")
    notes = {marks.WORDS: "0/1 nodes", marks.RESUME: "5", marks.TRIES: "2"}
    held = job(metadata={"annotations": notes}, spec={"suspend": True})
    assert brief(seen(of=held)) == ("pending", None, "Unschedulable")
    assert (held.words, held.resume_s, held.tries) == ("0/1 nodes", 5.0, 2)


def test_indexes_are_read_as_jobs_write_them() -> None:
    assert cluster_views.indexes("") == frozenset()
    assert cluster_views.indexes("0,2-4,9") == {0, 2, 3, 4, 9}


def test_pods_of_a_deleted_job_count_until_they_are_gone() -> None:
    running = replica_views.orphan(pod(RUNNING), now_s=NOW_S)
    assert running is not None and running.state == "running"
    assert replica_views.orphan(pod(ended(0)), now_s=NOW_S) is None
    lost = pod(RUNNING, deletionTimestamp=at(-31))
    assert replica_views.orphan(lost, now_s=NOW_S) is None


@pytest.mark.parametrize("missing", [marks.TRIAL_UID, marks.ROLE, marks.ATTEMPT, marks.INDEX])
def test_objects_of_others_are_left_out(missing: str) -> None:
    labels = {**LABELS, marks.INDEX: "0"}
    del labels[missing]
    document = {"metadata": {"name": "p", "namespace": "team", "uid": "p", "labels": labels}}
    assert cluster_views.pod(document) is None


@pytest.mark.parametrize("owners", [[], [{"uid": "another"}]])
def test_a_job_that_the_trial_does_not_own_is_none_of_ours(owners: list[Any]) -> None:
    place = {"name": "j", "namespace": "team", "uid": "j", "labels": LABELS}
    document = {"metadata": {**place, "ownerReferences": owners}, "spec": {}, "status": {}}
    assert cluster_views.job(document) is None
