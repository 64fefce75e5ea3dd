"""ResourceStore on custom resources keeps the contract, on a real API server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quintile import ports
from quintile.adapters import client_kube, documents_kube, resource_kube
from quintile.core import errors, meta
from quintile.testing import clusters, waiting
from quintile.testing.resource_contract import KEY, KINDS, Contract, document, job, trial

Rows = tuple[client_kube.KubeClient, tuple[str, ...]]


@pytest.fixture(scope="module")
def place() -> Iterator[Rows]:
    kube = clusters.client()
    with clusters.namespaces(kube, "a", "b", "default") as names:
        yield kube, names


@pytest.fixture
def bare(place: Rows) -> resource_kube.KubeResourceStore:
    """An empty store."""
    kube, names = place
    store = resource_kube.KubeResourceStore(kube, names)
    for kind in KINDS:
        for name in names:
            kube.delete(documents_kube.path(kind, name))
    waiting.until(lambda: not any(store.list(kind).items for kind in KINDS))
    return store


@pytest.fixture
def store(place: Rows, bare: resource_kube.KubeResourceStore) -> ports.ResourceStore:
    return clusters.RenamedStore(bare, dict(zip(("a", "b", "default"), place[1], strict=True)))


class TestKube(Contract):
    """The suite that the fake and the SQL store keep."""


def test_what_kubectl_wrote_is_complete_and_can_be_changed(
    place: Rows, store: ports.ResourceStore
) -> None:
    kube, names = place
    path = documents_kube.path("Experiment", names[2], "digits")
    sparse = {**document(namespace=names[2]), "apiVersion": meta.API_VERSION}
    kube.apply(path, sparse, manager="kubectl")
    found = store.get(KEY)
    assert found["spec"]["description"] == ""
    found["spec"]["suspend"] = True
    assert store.apply(found, manager="quintile-api")["spec"]["suspend"] is True
    assert "description" not in kube.get(path)["spec"]


def test_a_field_of_another_manager_conflicts_and_names_it(
    place: Rows, store: ports.ResourceStore
) -> None:
    kube, names = place
    path = documents_kube.path("Experiment", names[2], "digits")
    theirs = {**document(namespace=names[2], suspend=True), "apiVersion": meta.API_VERSION}
    kube.apply(path, theirs, manager="argocd")
    with pytest.raises(errors.Conflict, match=r"argocd.*suspend") as caught:
        store.apply(document(), manager="quintile-api")
    assert caught.value.field == "spec.suspend"
    assert store.get(KEY)["spec"]["suspend"] is True


def test_the_operator_takes_fields_of_its_children(place: Rows, store: ports.ResourceStore) -> None:
    kube, names = place
    parent = store.apply(document(), manager="test")
    store.apply(trial(parent), manager=resource_kube.OPERATOR)
    path = documents_kube.path("Trial", names[2], "digits-t0")
    kube.patch(path, {"spec": {"template": {"suspend": True}}}, manager="somebody")
    after = store.apply(trial(parent), manager=resource_kube.OPERATOR)
    assert after["spec"]["template"]["suspend"] is False


def test_a_resource_that_is_being_deleted_is_not_applied(
    place: Rows, store: ports.ResourceStore
) -> None:
    kube, names = place
    store.apply(document(), manager="test")
    path = documents_kube.path("Experiment", names[2], "digits")
    kube.patch(path, {"metadata": {"finalizers": ["example.com/wait"]}})
    store.delete(KEY)
    with pytest.raises(errors.Conflict, match="being deleted"):
        store.apply(document(suspend=True), manager="test")
    kube.patch(path, {"metadata": {"finalizers": None}})


def test_a_version_that_is_too_old_conflicts(bare: resource_kube.KubeResourceStore) -> None:
    with pytest.raises(errors.Conflict):
        list(bare.watch(KINDS, since="1", wait_s=5))


def test_a_version_of_another_store_is_refused(bare: resource_kube.KubeResourceStore) -> None:
    with pytest.raises(errors.InvalidSpec):
        list(bare.watch(KINDS, since="Trial/=x", wait_s=0))


def test_another_namespace_is_no_project(bare: resource_kube.KubeResourceStore) -> None:
    with pytest.raises(errors.InvalidSpec, match="not a project") as caught:
        bare.apply(document(), manager="test")
    assert caught.value.field == "metadata.namespace"


def test_long_lists_come_whole(
    place: Rows, store: ports.ResourceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource_kube, "PAGE", 2)
    for number in range(5):
        store.apply(job(f"parts{number}"), manager="test")
    names = [meta.key_of(item).name for item in store.list("LabelingJob").items]
    assert names == [f"parts{number}" for number in range(5)]
