"""The operator as a process on a real API server: who leads, how it ends, what it refuses."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest
import yaml

from quintile.adapters import client_kube, lease_kube, tokens_ed25519
from quintile.core import meta
from quintile.testing import clusters, waiting
from quintile_operator import main, preflight

Place = tuple[client_kube.KubeClient, str]


@pytest.fixture
def place() -> Iterator[Place]:
    kube = clusters.client()
    with clusters.namespaces(kube, "operator") as (namespace,):
        yield kube, namespace


@pytest.fixture
def keys(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "trial.pem").write_bytes(tokens_ed25519.new_private_pem())
    (tmp_path / "service-token").write_text("a service token\n")
    return tmp_path


def started(namespace: str, keys: pathlib.Path, **env: str) -> subprocess.Popen[str]:
    own = {
        "QUINTILE_KEYS": str(keys),
        "QUINTILE_PORT": "0",
        "QUINTILE_METRICS_PORT": "0",
        "QUINTILE_API_URL": "http://127.0.0.1:9",
        "QUINTILE_KUBERNETES__NAMESPACES": namespace,
        "QUINTILE_KUBERNETES__NAMESPACE": namespace,
        "QUINTILE_KUBERNETES__LEASE_S": "3",
        "QUINTILE_KUBERNETES__WORKER_IMAGE": "quintile-trainer:test",
        "QUINTILE_KUBERNETES__NETWORK_POLICIES": "false",
        "QUINTILE_LOGS__FORMAT": "json",
        **env,
    }
    inherited = {name: value for name, value in os.environ.items() if "QUINTILE" not in name}
    return subprocess.Popen(
        [sys.executable, "-m", "quintile_operator.main"],
        env={**inherited, **own},
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def running(*made: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in made:
            process.kill()
            process.wait(20)
            assert process.stderr is not None
            process.stderr.close()


def holder(kube: client_kube.KubeClient, namespace: str) -> str:
    found = lease_kube.KubeLease(kube, namespace=namespace, name="quintile-operator").read()
    return found.holder if found is not None else ""


def said(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.read()


def experiment(kube: client_kube.KubeClient, namespace: str, name: str) -> None:
    path = f"/apis/{meta.API_VERSION}/namespaces/{namespace}/experiments/{name}"
    body = {
        "apiVersion": meta.API_VERSION,
        "kind": "Experiment",
        "metadata": {"name": name},
        "spec": {"estimator": {"builtin": {"model": "resnet8"}}},
    }
    kube.apply(path, body, manager="kubectl")


def trials(kube: client_kube.KubeClient, namespace: str) -> int:
    path = f"/apis/{meta.API_VERSION}/namespaces/{namespace}/trials"
    return len(kube.get(path)["items"])


def test_another_operator_takes_over_from_one_that_was_killed(
    place: Place, keys: pathlib.Path
) -> None:
    kube, namespace = place
    first = started(namespace, keys)
    with running(first):
        leader = waiting.until(lambda: holder(kube, namespace))
        second = started(namespace, keys)
        with running(second):
            experiment(kube, namespace, "before")
            waiting.until(lambda: trials(kube, namespace) == 1)
            first.send_signal(signal.SIGKILL)
            experiment(kube, namespace, "after")
            waiting.until(lambda: trials(kube, namespace) == 2)
            assert holder(kube, namespace) != leader


def test_an_operator_that_is_asked_to_stop_lets_go(place: Place, keys: pathlib.Path) -> None:
    kube, namespace = place
    process = started(namespace, keys, QUINTILE_KUBERNETES__LEASE_S="60")
    with running(process):
        waiting.until(lambda: holder(kube, namespace))
        process.terminate()
        assert process.wait(30) == main.STOPPED
        assert holder(kube, namespace) == ""


def test_a_lease_that_another_took_ends_the_process(place: Place, keys: pathlib.Path) -> None:
    kube, namespace = place
    process = started(namespace, keys)
    with running(process):
        waiting.until(lambda: holder(kube, namespace))
        lease = lease_kube.KubeLease(kube, namespace=namespace, name="quintile-operator")
        body = {"spec": {"holderIdentity": "somebody else"}}
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/quintile-operator"
        kube.patch(path, body)
        assert process.wait(30) == main.LEASE_LOST
        found = lease.read()
        assert found is not None
        assert found.holder == "somebody else"


def test_figures_and_health_are_served(
    place: Place, keys: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    kube, namespace = place
    process = started(namespace, keys)
    with running(process):
        assert process.stderr is not None
        line = next(line for line in process.stderr if "waiting for the Lease" in line)
        host, port = yaml.safe_load(line)["addresses"][0]
        waiting.until(lambda: holder(kube, namespace))
        with urllib.request.urlopen(f"http://{host}:{port}/healthz", timeout=10) as answer:
            assert answer.read() == b"ok"
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        assert "quintile_operator_api_requests_total{" in text
        assert "quintile_operator_leader" in text


def test_missing_rights_are_named(place: Place, keys: pathlib.Path, tmp_path: pathlib.Path) -> None:
    kube, namespace = place
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "powerless"}}
    kube.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    token = kube.create(
        f"/api/v1/namespaces/{namespace}/serviceaccounts/powerless/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )["status"]["token"]
    config = yaml.safe_load(pathlib.Path(os.environ["KUBECONFIG"]).read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    process = started(namespace, keys, KUBECONFIG=str(path))
    with running(process):
        assert process.wait(60) == main.NO_RIGHTS
        text = said(process)
        assert f"get, list, watch, create, patch trials in {namespace}" in text
        assert f"patch trials/status in {namespace}" in text
        assert "get, list, watch queues in the cluster" in text


def test_no_credentials_are_refused(keys: pathlib.Path, tmp_path: pathlib.Path) -> None:
    process = started("any", keys, KUBECONFIG=str(tmp_path / "none"))
    with running(process):
        assert process.wait(60) == main.BAD_SETTINGS
        assert "No credentials for a Kubernetes cluster" in said(process)


def test_a_key_that_is_missing_is_named(place: Place, tmp_path: pathlib.Path) -> None:
    process = started(place[1], tmp_path)
    with running(process):
        assert process.wait(60) == main.BAD_SETTINGS
        assert "service-token cannot be read" in said(process)


def test_all_rights_are_there_for_an_administrator(place: Place) -> None:
    kube, namespace = place
    scope = preflight.Scope((namespace,), namespace, "quintile-operator")
    assert list(preflight.missing_rights(kube, scope)) == []
    preflight.check_kinds(kube)
