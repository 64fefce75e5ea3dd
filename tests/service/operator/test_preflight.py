"""What the operator says when the cluster is not ready for it, before it does anything."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from quintile.core import crd, errors, meta
from quintile_operator import preflight

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCOPE = preflight.Scope(("team-a", "team-b"), "quintile", "quintile-operator")


class FakeApi:
    """Answers what preflight asks; everything is there and allowed unless a test says otherwise."""

    def __init__(self) -> None:
        self.plurals = [kind.plural for kind in crd.KINDS]
        self.revision: str | None = str(crd.REVISION)
        self.reads_crds = True
        self.denied: set[tuple[str, str, str]] = set()
        self.asked: list[dict[str, Any]] = []

    def get(self, path: str, **_query: object) -> meta.Document:
        if path == f"/apis/{meta.API_VERSION}":
            if not self.plurals:
                raise errors.NotFound("the server could not find the requested resource")
            return {"resources": [{"name": name} for name in self.plurals]}
        if not self.reads_crds:
            raise errors.Forbidden("no")
        annotations = {crd.REVISION_KEY: self.revision} if self.revision is not None else {}
        return {"metadata": {"annotations": annotations}}

    def create(self, path: str, document: meta.Document) -> meta.Document:
        assert path.endswith("/selfsubjectaccessreviews")
        asked = document["spec"]["resourceAttributes"]
        self.asked.append(asked)
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource", ""))))
        wanted = (asked["verb"], resource, asked.get("namespace", ""))
        return {"status": {"allowed": wanted not in self.denied}}


def check(api: FakeApi, scope: preflight.Scope = SCOPE) -> None:
    preflight.check(api, scope)  # type: ignore[arg-type]


def test_a_ready_cluster_is_fine() -> None:
    api = FakeApi()
    check(api)
    api.reads_crds = False
    check(api)


def test_a_cluster_without_our_kinds_is_told_to_install_them() -> None:
    api = FakeApi()
    api.plurals = []
    with pytest.raises(preflight.NoKinds, match="quintile-crds"):
        check(api)
    api.plurals = ["experiments", "trials"]
    with pytest.raises(preflight.NoKinds, match="labelingjobs, queues, clusterruntimes"):
        check(api)


@pytest.mark.parametrize("revision", [None, "0", "old"])
def test_kinds_of_an_older_release_are_refused(revision: str | None) -> None:
    api = FakeApi()
    api.revision = revision
    with pytest.raises(preflight.NoKinds, match=r"experiments\.quintile\.dev is of revision"):
        check(api)


def test_kinds_of_a_newer_release_are_fine() -> None:
    api = FakeApi()
    api.revision = str(crd.REVISION + 1)
    check(api)


def test_every_missing_right_is_named_with_its_place() -> None:
    api = FakeApi()
    api.denied = {
        ("patch", "trials/status", "team-b"),
        ("create", "jobs", "team-a"),
        ("delete", "jobs", "team-a"),
        ("watch", "queues", ""),
        ("patch", "leases", "quintile"),
    }
    with pytest.raises(preflight.NoRights) as caught:
        check(api)
    assert caught.value.message == (
        "The operator may not patch trials/status in team-b; create, delete jobs in team-a; "
        "watch queues in the cluster; patch leases in quintile."
    )


def test_the_lease_is_asked_for_by_name() -> None:
    api = FakeApi()
    check(api)
    leases = [asked for asked in api.asked if asked["resource"] == "leases"]
    assert {asked["verb"]: asked.get("name", "") for asked in leases} == {
        "get": "quintile-operator",
        "create": "",
        "patch": "quintile-operator",
    }


def test_an_operator_of_the_whole_cluster_asks_without_a_namespace() -> None:
    api = FakeApi()
    check(api, preflight.Scope((), "quintile", "quintile-operator"))
    assert {asked.get("namespace", "") for asked in api.asked} == {"", "quintile"}


def test_the_manual_shows_the_rights_as_they_are() -> None:
    page = (ROOT / "docs" / "operator.md").read_text(encoding="utf-8")
    assert preflight.table() in page
