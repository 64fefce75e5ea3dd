"""A real cluster for tests: ``KUBECONFIG`` names it; without, those tests are skipped."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import pytest
import yaml

from quintile import ports
from quintile.adapters import client_kube
from quintile.core import meta, runplan

NEEDED = "set KUBECONFIG to a cluster for tests that has the CRDs of charts/quintile-crds"


def client(*, agent: str = "quintile-tests") -> client_kube.KubeClient:
    """Return a client of the cluster for tests; skips the test when there is none."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip(NEEDED)
    return client_kube.load(agent=agent)


def image() -> str:
    """Return the trainer's image for tests; skips the test when there is none."""
    name = os.environ.get("QUINTILE_TEST_IMAGE", "")
    if not name:
        pytest.skip("set QUINTILE_TEST_IMAGE to an image of trainer-image/Dockerfile")
    return name


def own_address(kube: client_kube.KubeClient) -> str:
    """Return an address of this machine that pods reach; skips the test when none is known.

    ``QUINTILE_TEST_HOST`` names it; otherwise a node of the cluster must be this machine.
    """
    given = os.environ.get("QUINTILE_TEST_HOST", "")
    found = [given] if given else _node_addresses(kube)
    for address in found:
        with contextlib.suppress(OSError), socket.create_server((address, 0)):
            return address
    pytest.skip("set QUINTILE_TEST_HOST to an address of this machine that pods reach")


def _node_addresses(kube: client_kube.KubeClient) -> list[str]:
    return [
        address["address"]
        for node in kube.get("/api/v1/nodes")["items"]
        for address in node["status"].get("addresses", ())
        if address["type"] == "InternalIP"
    ]


def prepare(kube: client_kube.KubeClient, namespace: str) -> None:
    """Make a namespace a project: pods pass ``restricted``, workers have their account."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kube.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": labels}})
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "quintile-worker"},
        "automountServiceAccountToken": False,
    }
    kube.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)


def account(
    kube: client_kube.KubeClient, namespace: str, name: str, rules: Sequence[meta.Document]
) -> client_kube.KubeClient:
    """Return a client of an account of ours that may do what ``rules`` say, in its namespace."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    own = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    kube.create(accounts, own)
    kube.create(f"{rbac}/roles", {**head, "kind": "Role", "rules": list(rules)})
    binding = {
        **head,
        "kind": "RoleBinding",
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }
    kube.create(f"{rbac}/rolebindings", binding)
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = kube.create(f"{accounts}/{name}/token", asked)["status"]["token"]
    config = yaml.safe_load(pathlib.Path(os.environ["KUBECONFIG"]).read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(config, file)
        file.flush()
        return client_kube.load(agent=name, kubeconfig=file.name)


@contextlib.contextmanager
def namespaces(kube: client_kube.KubeClient, *suffixes: str) -> Iterator[tuple[str, ...]]:
    """Make namespaces of our own, one for each suffix, and delete them in the end."""
    prefix = f"quintile-test-{secrets.token_hex(3)}"
    names = tuple(f"{prefix}-{suffix}" for suffix in suffixes)
    for name in names:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        kube.create("/api/v1/namespaces", body)
    try:
        yield names
    finally:
        for name in names:
            kube.delete(f"/api/v1/namespaces/{name}")


class RenamedStore:
    """A ResourceStore whose namespaces have other names underneath.

    Args:
        store: Holds the resources.
        names: Namespace underneath by namespace as the test says it.
    """

    def __init__(self, store: ports.ResourceStore, names: Mapping[str, str]) -> None:
        self._store = store
        self._down = dict(names)
        self._up = {below: above for above, below in names.items()}

    def get(self, key: meta.Key) -> meta.Document:
        """Return a document."""
        return self._raised(self._store.get(self._key(key)))

    def list(self, kind: str, *, namespace: str | None = None) -> ports.Listing:
        """Return all documents of a kind."""
        below = self._down[namespace] if namespace is not None else None
        found = self._store.list(kind, namespace=below)
        return ports.Listing(tuple(self._raised(item) for item in found.items), found.version)

    def watch(self, kinds: Sequence[str], *, since: str, wait_s: float) -> Iterator[runplan.Change]:
        """Yield changes."""
        for change in self._store.watch(kinds, since=since, wait_s=wait_s):
            document = self._raised(change.document)
            yield runplan.Change(change.type, document, change.version)

    def apply(
        self, document: meta.Document, *, manager: str, create_only: bool = False
    ) -> meta.Document:
        """Create or replace."""
        metadata = document["metadata"]
        below = self._down[metadata.get("namespace", "default")]
        placed = {**document, "metadata": {**metadata, "namespace": below}}
        return self._raised(self._store.apply(placed, manager=manager, create_only=create_only))

    def patch_status(self, key: meta.Key, status: meta.Document, *, uid: str) -> meta.Document:
        """Replace the status."""
        return self._raised(self._store.patch_status(self._key(key), status, uid=uid))

    def delete(self, key: meta.Key, *, uid: str = "") -> None:
        """Delete a resource."""
        self._store.delete(self._key(key), uid=uid)

    def _key(self, key: meta.Key) -> meta.Key:
        return key._replace(namespace=self._down[key.namespace])

    def _raised(self, document: meta.Document) -> meta.Document:
        metadata = document["metadata"]
        above = self._up[metadata["namespace"]]
        return {**document, "metadata": {**metadata, "namespace": above}}
