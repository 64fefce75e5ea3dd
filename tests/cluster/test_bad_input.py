"""What cannot run says why, in the words of who refused it, and goes on once the cause is gone."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from quintile.core import meta, names
from quintile.testing import clusters

pytestmark = pytest.mark.timeout(300)
NOWHERE = "localhost/quintile-nowhere:0"
RUNTIMES = f"/apis/{meta.API_VERSION}/clusterruntimes"


def spec(platform: Any, **more: Any) -> meta.Document:
    return {
        "estimator": {
            "script": {"bundle": platform.bundle("print('done')\n"), "entry": "train.py"}
        },
        "run": {"resources": {"memory": "512Mi"}},
        "failure": {"maxRestarts": 0},
        **more,
    }


def placed(platform: Any, name: str) -> meta.Document:
    """The condition Placed of an Experiment itself, where people look first."""
    found = platform.kube.get(platform.path("experiments", name)).get("status") or {}
    told = (entry for entry in found.get("conditions", ()) if entry["type"] == "Placed")
    return next(told, {"status": "", "reason": "", "message": ""})


@pytest.fixture
def runtime(platform: Any) -> Iterator[str]:
    """A runtime whose image nobody has, which lets others bring theirs."""
    name = f"quintile-test-{secrets.token_hex(3)}"
    document = {
        "apiVersion": meta.API_VERSION,
        "kind": "ClusterRuntime",
        "metadata": {"name": name},
        "spec": {"image": NOWHERE, "allowImage": True},
    }
    platform.kube.create(RUNTIMES, document)
    platform.driver.mark(meta.Key("ClusterRuntime", "", name))
    yield name
    platform.kube.delete(f"{RUNTIMES}/{name}")


def test_an_image_that_does_not_exist(platform: Any, runtime: str) -> None:
    platform.submit("nowhere", spec(platform, runtime=runtime))
    platform.until(lambda: placed(platform, "nowhere")["reason"] == "ImagePullFailed")
    found = placed(platform, "nowhere")
    assert found["status"] == "False"
    assert NOWHERE in found["message"] and "Hint: look at the name of the image" in found["message"]
    assert platform.status("nowhere")["phase"] == "Pending"
    # As if the image had come: the node goes on by itself, and so does the trial.
    (pod,) = platform.pods("nowhere")
    image = [{"op": "replace", "path": "/spec/containers/0/image", "value": clusters.image()}]
    platform.kube.patch(platform.path("pods", pod["metadata"]["name"]), image, form="json")
    platform.until_phase("nowhere", "Succeeded")
    platform.until(lambda: placed(platform, "nowhere")["status"] == "True")
    platform.remove("nowhere")


def test_an_image_of_ones_own(platform: Any, runtime: str) -> None:
    platform.submit("own", spec(platform, runtime=runtime, image=clusters.image()))
    platform.until_phase("own", "Succeeded")
    platform.remove("own")
    platform.submit("not-allowed", spec(platform, image=clusters.image()))
    path = platform.path("experiments", "not-allowed")
    platform.until(lambda: platform.kube.get(path).get("status", {}).get("reason") == "Refused")
    assert "Hint: Name a runtime that allows it" in platform.kube.get(path)["status"]["message"]
    platform.kube.delete(path)


def test_a_name_that_somebody_else_has(platform: Any) -> None:
    platform.submit("taken", spec(platform, suspend=True))
    platform.until_phase("taken", "Suspended")
    trial = platform.trial("taken")["metadata"]
    name = names.cluster_child(trial["name"], uid=trial["uid"], attempt=1, part="worker")
    jobs = f"/apis/batch/v1/namespaces/{platform.namespace}/jobs"
    container = {"name": "a", "image": clusters.image()}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }
    platform.kube.create(jobs, job)
    path = platform.path("experiments", "taken")
    platform.kube.patch(path, {"spec": {"suspend": False}})
    platform.until(lambda: placed(platform, "taken")["reason"] == "NameTaken")
    found = placed(platform, "taken")
    assert f"Job {platform.namespace}/{name} belongs to somebody else" in found["message"]
    assert "Hint: Delete or rename that Job" in found["message"]
    platform.kube.delete(f"{jobs}/{name}")
    platform.until_phase("taken", "Succeeded")
    platform.remove("taken")
