"""Both stores and the platform from the chart, for real: install, check, upgrade, remove.

Besides ``KUBECONFIG`` and ``QUINTILE_TEST_IMAGE`` it needs helm, and in the environment the images
``QUINTILE_TEST_CONTROL_IMAGE``, ``QUINTILE_TEST_POSTGRES_IMAGE``, ``QUINTILE_TEST_MINIO_IMAGE``.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from quintile.adapters import client_kube
from quintile.core import errors, meta
from quintile.testing import clusters, waiting

ROOT = Path(__file__).resolve().parents[2]
REMOVED_S = 120.0
KINDS = ("experiments", "trials", "labelingjobs")

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Release:
    """A release of the chart in namespaces of its own."""

    kube: client_kube.KubeClient
    namespace: str
    project: str
    values: str

    def helm(self, *arguments: str) -> str:
        command = ["helm", "--namespace", self.namespace, *arguments]
        found = subprocess.run(
            command, input=self.values, capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, f"{found.stdout}{found.stderr}"
        return found.stdout

    def upgrade(self, *arguments: str) -> None:
        chart = str(ROOT / "charts" / "quintile")
        wanted = ("--values", "-", "--wait", "--timeout", "5m", *arguments)
        self.helm("upgrade", "--install", "q", chart, *wanted)

    def keys(self) -> dict[str, str]:
        path = f"/api/v1/namespaces/{self.namespace}/secrets/q-keys"
        found: dict[str, str] = self.kube.get(path)["data"]
        return found


def reference(variable: str) -> dict[str, str]:
    """Return an image of the environment as the chart writes it; skips the test without one."""
    given = os.environ.get(variable, "")
    if not given:
        pytest.skip(f"set {variable} to an image that nodes can run")
    name, _, tag = given.rpartition(":")
    return {"name": name, "tag": tag}


@pytest.fixture
def release() -> Iterator[Release]:
    kube = clusters.client()
    if shutil.which("helm") is None:
        pytest.skip("helm is not on PATH; install Helm 3.18+")
    mark = secrets.token_hex(3)
    space, project = f"quintile-test-{mark}-system", f"quintile-test-{mark}-project"
    values = {
        "projects": [{"namespace": project}],
        "image": reference("QUINTILE_TEST_CONTROL_IMAGE"),
        "workers": {"image": reference("QUINTILE_TEST_IMAGE")},
        "postgresql": {"enabled": True, "image": reference("QUINTILE_TEST_POSTGRES_IMAGE")},
        "minio": {"enabled": True, "image": reference("QUINTILE_TEST_MINIO_IMAGE")},
    }
    for name in (space, project):
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        kube.create("/api/v1/namespaces", {**body, "metadata": {"name": name, "labels": labels}})
    yield Release(kube, space, project, json.dumps(values))
    for name in (space, project):
        try:
            kube.delete(f"/api/v1/namespaces/{name}")
        except errors.NotFound:
            continue


def test_a_platform_from_the_chart(release: Release) -> None:
    release.upgrade()
    release.helm("test", "q", "--timeout", "120s")
    before = release.keys()

    release.upgrade("--set", "api.replicas=2")
    release.helm("rollback", "q", "1", "--wait", "--timeout", "3m")
    assert release.keys() == before, "an upgrade changed a key"

    submit(release, "left-behind")
    waiting.until(lambda: len(ours(release)) > 1, timeout_s=60)
    release.helm("uninstall", "q", "--wait", "--timeout", "2m")
    assert not [name for item in ours(release) for name in item["metadata"].get("finalizers", ())]
    for name in (release.namespace, release.project):
        release.kube.delete(f"/api/v1/namespaces/{name}")
    waiting.until(lambda: gone(release), timeout_s=REMOVED_S)


def submit(release: Release, name: str) -> None:
    """Leave an Experiment, which has a Trial, whose dataset does not exist."""
    document = {
        "apiVersion": meta.API_VERSION,
        "kind": "Experiment",
        "metadata": {"name": name},
        "spec": {
            "dataset": {"name": "missing", "version": 1, "split": "none"},
            "estimator": {"builtin": {"model": "resnet8"}},
            "run": {"resources": {"cpu": "100m", "memory": "512Mi"}},
        },
    }
    release.kube.create(
        f"/apis/{meta.API_VERSION}/namespaces/{release.project}/experiments", document
    )


def ours(release: Release) -> list[meta.Document]:
    root = f"/apis/{meta.API_VERSION}/namespaces/{release.project}"
    return [item for kind in KINDS for item in release.kube.get(f"{root}/{kind}")["items"]]


def gone(release: Release) -> bool:
    for name in (release.namespace, release.project):
        try:
            release.kube.get(f"/api/v1/namespaces/{name}")
        except errors.NotFound:
            continue
        return False
    return True
