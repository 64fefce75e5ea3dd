"""No operator runs, and still the API server refuses what can never work, by name of the field."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quintile.adapters import client_kube, documents_kube
from quintile.core import errors, meta
from quintile.testing import clusters, invalid_changes, invalid_specs

STRICT = "?dryRun=All&fieldValidation=Strict"
Place = tuple[client_kube.KubeClient, str]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    kube = clusters.client()
    with clusters.namespaces(kube, "specs") as (namespace,):
        yield kube, namespace


def refused(kube: client_kube.KubeClient, path: str, document: meta.Document) -> str:
    """Return why the API server refuses to create a document; nothing is kept either way."""
    with pytest.raises(errors.InvalidSpec) as caught:
        kube.create(path + STRICT, document)
    return str(caught.value)


@pytest.mark.parametrize("case", invalid_specs.CREATES, ids=lambda case: case.name)
def test_a_spec_that_can_never_work_names_its_field(
    place: Place, case: invalid_specs.Create
) -> None:
    kube, namespace = place
    document = invalid_specs.document(case.kind, case.spec)
    assert case.field in refused(kube, documents_kube.path(case.kind, namespace), document)


@pytest.mark.parametrize("case", invalid_changes.UPDATES, ids=lambda case: case.name)
def test_what_cannot_change_does_not(place: Place, case: invalid_changes.Update) -> None:
    kube, namespace = place
    path = documents_kube.path(case.kind, namespace, "digits")
    kube.delete(path)
    wanted = invalid_specs.document(case.kind, case.before)
    made = kube.create(documents_kube.path(case.kind, namespace), wanted)
    changed = {**made, "spec": case.after}
    with pytest.raises(errors.InvalidSpec) as caught:
        kube.replace(f"{path}{STRICT}", changed)
    assert f"spec.{case.field}" in str(caught.value)
    assert kube.get(path)["spec"] == made["spec"]


@pytest.mark.parametrize("kind", ["Experiment", "LabelingJob", "Trial"])
def test_a_final_phase_stays_whoever_writes(place: Place, kind: str) -> None:
    kube, namespace = place
    path = documents_kube.path(kind, namespace, "ended")
    wanted = invalid_specs.document(kind, invalid_specs.BASES[kind], name="ended")
    made = kube.create(documents_kube.path(kind, namespace), wanted)
    kube.patch(f"{path}/status", {"status": {"phase": "Succeeded"}})
    for status in ({"phase": "Pending"}, {"phase": None}, None):
        with pytest.raises(errors.InvalidSpec, match=r"status\.phase is final"):
            kube.patch(f"{path}/status", {"status": status})
    kube.patch(f"{path}/status", {"status": {"message": "why"}})
    assert kube.get(path)["metadata"]["uid"] == made["metadata"]["uid"]


@pytest.mark.parametrize("kind", ["Experiment", "LabelingJob"])
@pytest.mark.parametrize("name", ["1digits", "x" * 41 + "-" + "y" * 30])
def test_a_name_without_room_for_its_children_is_refused(
    place: Place, kind: str, name: str
) -> None:
    kube, namespace = place
    document = invalid_specs.document(kind, invalid_specs.BASES[kind], name=name)
    assert "metadata.name" in refused(kube, documents_kube.path(kind, namespace), document)


@pytest.mark.parametrize("kind", invalid_specs.BASES)
def test_a_field_that_nobody_knows_is_named(place: Place, kind: str) -> None:
    kube, namespace = place
    spec = {**invalid_specs.BASES[kind], "colour": "red"}
    document = invalid_specs.document(kind, spec)
    assert "colour" in refused(kube, documents_kube.path(kind, namespace), document)


@pytest.mark.parametrize("kind", invalid_specs.BASES)
def test_what_the_table_begins_with_is_good(place: Place, kind: str) -> None:
    kube, namespace = place
    document = invalid_specs.document(kind, invalid_specs.BASES[kind], name="good")
    kube.create(documents_kube.path(kind, namespace) + STRICT, document)
