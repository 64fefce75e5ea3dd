"""Every route and every role: who gets in, who learns nothing. New routes must be named here."""

from __future__ import annotations

from typing import Any

import pytest
from starlette import routing

PUBLIC = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/login"),
    ("GET", "/api/v1/version"),
    ("POST", "/api/v1/session"),
    ("GET", "/api/v1/openapi.json"),
}
SIGNED = {
    ("GET", "/api/v1/bytes/{key:path}"),
    ("PUT", "/api/v1/bytes/{key:path}"),
    ("GET", "/api/v1/projects/{project}/experiments/{name}/tensorboard/open"),
}
P = "/api/v1/projects/{project}"
T = f"{P}/trials/{{name}}"
E = f"{P}/experiments"
D = f"{P}/datasets/{{name}}"
V = f"{D}/versions/{{version}}"
NEEDS = {
    ("GET", E): "viewer",
    ("POST", E): "manager",
    ("GET", f"{E}/{{name}}"): "viewer",
    ("DELETE", f"{E}/{{name}}"): "manager",
    ("POST", f"{E}/{{name}}/stop"): "manager",
    ("POST", f"{E}/{{name}}/resume"): "manager",
    ("POST", f"{E}/{{name}}/scale"): "manager",
    ("POST", f"{E}/{{name}}:plan"): "viewer",
    ("POST", f"{E}/{{name}}/tensorboard"): "viewer",
    ("GET", f"{E}/{{name}}/tensorboard/{{path:path}}"): "viewer",
    ("POST", f"{E}/{{name}}/tensorboard/{{path:path}}"): "viewer",
    ("GET", f"{P}/trials"): "viewer",
    ("GET", T): "viewer",
    ("GET", f"{T}/metrics"): "viewer",
    ("GET", f"{T}/logs"): "viewer",
    ("GET", f"{T}/checkpoints"): "viewer",
    ("GET", f"{T}/artifacts"): "viewer",
    ("GET", f"{T}/artifacts/{{file}}"): "viewer",
    ("GET", f"{P}/events"): "viewer",
    ("GET", f"{P}/datasets"): "viewer",
    ("POST", f"{P}/datasets"): "manager",
    ("GET", D): "viewer",
    ("DELETE", D): "manager",
    ("POST", f"{P}/uploads"): "manager",
    ("GET", f"{P}/uploads/{{upload_id}}"): "manager",
    ("PUT", f"{P}/uploads/{{upload_id}}"): "manager",
    ("POST", f"{D}/imports"): "manager",
    ("GET", f"{D}/imports/{{import_id}}"): "viewer",
    ("GET", f"{D}/versions"): "viewer",
    ("POST", f"{D}/versions"): "manager",
    ("GET", V): "viewer",
    ("GET", f"{V}/splits"): "viewer",
    ("POST", f"{V}/splits"): "manager",
    ("GET", f"{V}/items"): "viewer",
    ("GET", f"{V}/items.ndjson"): "viewer",
    ("GET", f"{V}/labels.csv"): "viewer",
    ("GET", f"{V}/items/{{item_id}}"): "viewer",
    ("GET", f"{V}/items/{{item_id}}/image"): "viewer",
    ("GET", f"{V}/items/{{item_id}}/thumbnail"): "viewer",
    ("GET", f"{V}/why/{{item_id}}"): "viewer",
    ("GET", f"{P}/members"): "viewer",
    ("PUT", f"{P}/members/{{user}}"): "admin",
    ("DELETE", f"{P}/members/{{user}}"): "admin",
}
ANYBODY = {
    ("GET", "/api/v1/me"),
    ("GET", "/api/v1/identity"),
    ("POST", "/api/v1/logout"),
    ("GET", "/api/v1/tokens"),
    ("POST", "/api/v1/tokens"),
    ("DELETE", "/api/v1/tokens/{token_id}"),
    ("GET", "/api/v1/projects"),
}
ADMINISTRATOR = {
    ("GET", "/api/v1/users"),
    ("POST", "/api/v1/users"),
    ("POST", "/api/v1/users/{user}/login-link"),
    ("POST", "/api/v1/projects"),
}
MANAGER_ANYWHERE = {
    ("PUT", "/api/v1/bundles/{sha256}"),
    ("HEAD", "/api/v1/bundles/{sha256}"),
}
ROLES = ("viewer", "labeler", "reviewer", "manager", "admin")


def operations(app: Any) -> set[tuple[str, str]]:
    """Every (method, path) that the application routes, from its OpenAPI document and routes."""
    found = {
        (method.upper(), path) for path, item in app.openapi()["paths"].items() for method in item
    }
    found |= {
        (method, route.path)
        for route in app.routes
        if isinstance(route, routing.Route)
        for method in set(route.methods or ()) - {"HEAD"}
    }
    return {
        (method, path.replace("{key}", "{key:path}").replace("{path}", "{path:path}"))
        for method, path in found
    }


def test_every_route_is_named_in_this_matrix(world: Any) -> None:
    named = PUBLIC | SIGNED | set(NEEDS) | ANYBODY | ADMINISTRATOR | MANAGER_ANYWHERE
    routed = {
        (method, path)
        for method, path in operations(world.app)
        if not path.startswith("/api/v1/internal/")
    }
    assert routed == named


def test_nothing_opens_without_credentials(world: Any) -> None:
    client = world.anonymous()
    for method, path in sorted(operations(world.app) - PUBLIC - SIGNED):
        answer = client.request(method, _fill(path), json={})
        assert answer.status_code == 401, (method, path, answer.text)


def test_agents_reach_no_route_of_people(world: Any, trial: Any) -> None:
    client = trial.agent().client
    for method, path in sorted(set(NEEDS) | ADMINISTRATOR | MANAGER_ANYWHERE):
        answer = client.request(method, _fill(path), json={})
        assert answer.status_code in (403, 404), (method, path, answer.text)


@pytest.mark.parametrize("role", [None, *ROLES])
def test_roles_by_routes(world: Any, role: str | None) -> None:
    client = world.member(role)
    for (method, path), needed in sorted(NEEDS.items()):
        answer = client.request(method, _fill(path), json={"role": "viewer"})
        refused = _refused(answer)
        if role is None:
            assert refused == "stranger", (method, path, answer.text)
        elif ROLES.index(role) < ROLES.index(needed):
            assert refused == "role", (method, path, answer.text)
        else:
            assert refused == "", (method, path, answer.text)
    for method, path in sorted(ADMINISTRATOR):
        assert client.request(method, _fill(path), json={}).status_code == 403
    for method, path in sorted(MANAGER_ANYWHERE):
        strong = role is not None and ROLES.index(role) >= ROLES.index("manager")
        answer = client.request(method, _fill(path), content=b"")
        assert (answer.status_code == 403) is not strong, (method, path, answer.text)


def test_another_project_does_not_exist(world: Any) -> None:
    admin = world.admin()
    admin.post("/api/v1/projects", json={"name": "secret"})
    world.experiment("visible")
    client = world.member("manager")
    hidden = client.get("/api/v1/projects/secret/experiments")
    absent = client.get("/api/v1/projects/nowhere/experiments")
    assert hidden.status_code == absent.status_code == 404
    same = {"secret": "nowhere"}
    assert hidden.json()["detail"].replace("secret", same["secret"]) == absent.json()["detail"]
    assert admin.get("/api/v1/projects/nowhere/experiments").status_code == 404
    assert admin.get("/api/v1/projects/secret/experiments").json()["items"] == []
    names = [entry["name"] for entry in client.get("/api/v1/projects").json()["items"]]
    assert names == ["default"]


def test_names_of_another_project_lead_nowhere(world: Any, trial: Any) -> None:
    admin = world.admin()
    admin.post("/api/v1/projects", json={"name": "other"})
    base = f"/api/v1/projects/other/trials/{trial.name}"
    for tail in ("", "/metrics", "/logs", "/checkpoints", "/artifacts"):
        assert admin.get(base + tail).status_code == 404
    assert admin.post("/api/v1/projects/default/datasets", json={"name": "d"}).status_code == 201
    upload = admin.post("/api/v1/projects/default/uploads", json={"size": 1}).json()
    for tail in ("datasets/d", "datasets/d/versions", f"uploads/{upload['id']}"):
        assert admin.get(f"/api/v1/projects/default/{tail}").status_code == 200
        assert admin.get(f"/api/v1/projects/other/{tail}").status_code == 404
    gone = admin.get("/api/v1/projects/other/experiments/digits")
    assert gone.status_code == 404


def _fill(path: str) -> str:
    for name, value in {
        "{project}": "default",
        "{name}": "nothing",
        "{user}": "nobody",
        "{file}": "model.bin",
        "{sha256}": "0" * 64,
        "{token_id}": "none",
        "{uid}": "uid",
        "{version}": "1",
        "{item_id}": "none",
        "{upload_id}": "none",
        "{import_id}": "none",
        "{key:path}": "a/b",
        "{path:path}": "data/runs",
    }.items():
        path = path.replace(name, value)
    return path


def _refused(answer: Any) -> str:
    if answer.status_code == 403 and "this needs" in answer.json()["detail"]:
        return "role"
    if answer.status_code == 404 and "There is no project" in answer.json()["detail"]:
        return "stranger"
    return ""
