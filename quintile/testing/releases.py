"""The platform from its chart in a real cluster, with both stores: install, reach, upgrade, remove.

Besides ``KUBECONFIG`` and ``QUINTILE_TEST_IMAGE`` it needs helm and kubectl on the path, and in the
environment the images ``QUINTILE_TEST_CONTROL_IMAGE``, ``QUINTILE_TEST_POSTGRES_IMAGE`` and
``QUINTILE_TEST_MINIO_IMAGE``. Without them tests are skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from quintile.adapters import client_kube
from quintile.core import meta
from quintile.sdk import blocking
from quintile.testing import clusters

CHART = Path(__file__).resolve().parents[2] / "charts" / "quintile"
NAME = "q"
"""Of every release, and so of its objects."""


@dataclass(frozen=True)
class Release:
    """A release of the chart in namespaces of its own.

    Attributes:
        kube: Requests to the cluster.
        namespace: Where the platform is.
        project: Where trials are.
        values: What ``helm`` reads, as JSON.
    """

    kube: client_kube.KubeClient
    namespace: str
    project: str
    values: str

    def helm(self, *arguments: str) -> str:
        """Run helm in the namespace; return what it printed."""
        return _run(["helm", "--namespace", self.namespace, *arguments], told=self.values)

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace; return what it printed."""
        return _run(["kubectl", "--namespace", self.namespace, *arguments])

    def upgrade(self, *arguments: str) -> None:
        """Install, or upgrade with further arguments; returns when all is ready."""
        wanted = ("--values", "-", "--wait", "--timeout", "5m", *arguments)
        self.helm("upgrade", "--install", NAME, str(CHART), *wanted)

    def keys(self) -> dict[str, str]:
        """Return the keys of the platform, as the Secret holds them."""
        path = f"/api/v1/namespaces/{self.namespace}/secrets/{NAME}-keys"
        found: dict[str, str] = self.kube.get(path)["data"]
        return found

    def pods(self, part: str) -> list[meta.Document]:
        """Return the pods of a part: ``api``, ``operator``, ``postgresql``, ..."""
        labels = f"app.kubernetes.io/instance={NAME},app.kubernetes.io/component={part}"
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        found: list[meta.Document] = self.kube.get(path, labelSelector=labels)["items"]
        return found

    @contextlib.contextmanager
    def session(self) -> Iterator[blocking.Session]:
        """Reach the API as the administrator, by a port of this machine, while its pod lives."""
        command = ("python", "-m", "quintile_api.main", "admin-token")
        token = self.kubectl("exec", f"deploy/{NAME}-api", "--", *command).strip()
        words = ["kubectl", "--namespace", self.namespace]
        words += ["port-forward", f"service/{NAME}-api", ":8420"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as forward:
            assert forward.stdout is not None
            port = re.search(r"127\.0\.0\.1:(\d+) ->", forward.stdout.readline())
            assert port is not None, "kubectl port-forward did not start"
            url = f"http://127.0.0.1:{port.group(1)}"
            made = blocking.connect(url=url, token=token, project=self.project)
            try:
                yield made
            finally:
                made.close()
                blocking.forget()
                forward.terminate()


def image(variable: str) -> dict[str, str]:
    """Return an image of the environment as the chart writes it; skips the test without one."""
    given = os.environ.get(variable, "")
    if not given:
        pytest.skip(f"set {variable} to an image that nodes can run")
    name, _, tag = given.rpartition(":")
    return {"name": name, "tag": tag}


@contextlib.contextmanager
def namespaces() -> Iterator[Release]:
    """Make a release's namespaces, and delete them in the end; nothing is installed yet."""
    kube = clusters.client()
    if shutil.which("helm") is None:
        pytest.skip("helm is not on PATH; install Helm 3.18+")
    mark = secrets.token_hex(3)
    space, project = f"quintile-test-{mark}-system", f"quintile-test-{mark}-project"
    values = {
        "projects": [{"namespace": project}],
        "image": image("QUINTILE_TEST_CONTROL_IMAGE"),
        "workers": {"image": image("QUINTILE_TEST_IMAGE")},
        "postgresql": {"enabled": True, "image": image("QUINTILE_TEST_POSTGRES_IMAGE")},
        "minio": {"enabled": True, "image": image("QUINTILE_TEST_MINIO_IMAGE")},
    }
    for name in (space, project):
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        kube.create("/api/v1/namespaces", {**body, "metadata": {"name": name, "labels": labels}})
    try:
        yield Release(kube, space, project, json.dumps(values))
    finally:
        for name in (space, project):
            kube.delete(f"/api/v1/namespaces/{name}")


def _run(command: list[str], told: str = "") -> str:
    found = subprocess.run(command, input=told, capture_output=True, text=True, check=False)
    assert found.returncode == 0, f"{found.stdout}{found.stderr}"
    return found.stdout
