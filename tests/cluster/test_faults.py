"""What goes wrong around pods: each ends in a condition with reason and hint, or goes on alone."""

from __future__ import annotations

from typing import Any

import pytest

from quintile.core import meta
from quintile.testing import strikes

pytestmark = pytest.mark.timeout(300)
SLEEPY = """
import time
from quintile_trainer import context

run = context.current()
print("alive", flush=True)
for step in range(max(run.restored_step(), 0), 2000):
    time.sleep(0.05)
    run.progress(step + 1, 2000)
"""


def spec(bundle: str, **run: Any) -> meta.Document:
    return {
        "estimator": {"script": {"bundle": bundle, "entry": "train.py"}},
        "run": {"resources": {"memory": "512Mi"}, **run},
        "checkpoint": {"graceSeconds": 3},
        "failure": {"maxRestarts": 2, "maxInPlaceRestarts": 0},
    }


@pytest.fixture(scope="module")
def sleepy(platform: Any) -> str:
    """The bundle of a script that takes its time."""
    return str(platform.bundle(SLEEPY))


def test_a_pod_that_is_asked_to_leave_costs_no_restart(platform: Any, sleepy: str) -> None:
    platform.submit("deleted", spec(sleepy, mode="ddp", workers={"replicas": 2}))
    platform.until_phase("deleted", "Running")
    first = {pod["metadata"]["name"] for pod in platform.pods("deleted")}
    platform.kube.delete(platform.path("pods", min(first)))
    platform.until_told("deleted", lambda told: told.get("attempt") == 2)
    status = platform.until_phase("deleted", "Running")
    assert status.get("restarts", 0) == 0
    assert status["lastFailure"]["reason"] == "Preempted"
    platform.remove("deleted")


def test_a_pod_that_is_deleted_by_force_is_followed_by_another(platform: Any, sleepy: str) -> None:
    platform.submit("forced", spec(sleepy))
    platform.until_phase("forced", "Running")
    name = platform.pods("forced")[0]["metadata"]["name"]
    strikes.pod(platform, name)
    platform.until(
        lambda: (
            platform.condition("forced", "Running").get("status") == "True"
            and [pod for pod in platform.pods("forced") if pod["metadata"]["name"] != name]
        )
    )
    platform.remove("forced")


def test_a_lost_agent_is_followed_by_another_attempt(platform: Any, sleepy: str) -> None:
    platform.submit("lost", spec(sleepy))
    platform.until_phase("lost", "Running")
    strikes.first_process(platform, platform.pods("lost")[0]["metadata"]["name"])
    platform.until_told("lost", lambda told: told.get("attempt") == 2)
    failure = platform.status("lost")["lastFailure"]
    assert (failure["reason"], platform.status("lost")["restarts"]) == ("AgentLost", 1)
    platform.until_phase("lost", "Running")
    platform.remove("lost")


def test_memory_that_does_not_suffice_is_called_that(platform: Any) -> None:
    bundle = platform.bundle("block = bytearray(2 << 30)\n")
    platform.submit("hungry", {**spec(bundle), "failure": {"maxRestarts": 0}})
    status = platform.until_told("hungry", lambda told: told.get("phase") == "Failed")
    assert status["reason"] == "OutOfMemory", status
    assert "raise run.resources.memory" in status["message"]
    platform.remove("hungry")


def test_what_fits_no_node_says_so_and_gives_room_back(platform: Any, sleepy: str) -> None:
    platform.submit("large", spec(sleepy, resources={"cpu": "512"}))
    platform.until_told("large", lambda told: told.get("reason") == "Unschedulable")
    found = platform.condition("large", "Placed")
    assert found["status"] == "False"
    assert "Insufficient cpu" in found["message"] and "Hint:" in found["message"]
    path = f"/apis/batch/v1/namespaces/{platform.namespace}/jobs"
    uid = platform.trial("large")["metadata"]["uid"]

    def held() -> bool:
        jobs = platform.kube.get(path, labelSelector=f"quintile.dev/trial-uid={uid}")["items"]
        return [job["spec"]["suspend"] for job in jobs] == [True]

    platform.until(held)
    platform.until(lambda: not platform.pods("large"))
    assert "Insufficient cpu" in platform.condition("large", "Placed")["message"]
    platform.remove("large")


def test_a_quota_that_is_too_small_is_named(platform: Any, sleepy: str) -> None:
    path = f"/api/v1/namespaces/{platform.namespace}/resourcequotas"
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"requests.memory": "1Mi"}},
    }
    platform.kube.create(path, quota)
    try:
        platform.submit("squeezed", spec(sleepy))
        platform.until_told("squeezed", lambda told: told.get("reason") == "PodNotMade")
        message = platform.condition("squeezed", "Placed")["message"]
        assert "exceeded quota: small" in message and "raise the quota" in message
    finally:
        platform.kube.delete(f"{path}/small")
    platform.until_phase("squeezed", "Running")
    platform.remove("squeezed")
