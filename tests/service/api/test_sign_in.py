"""One-time links, sessions, API tokens, users, members, and what the audit keeps."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from quintile.testing import databases
from quintile_api import audit, tables
from quintile_api.identity import sign_in


def test_a_link_opens_one_session_once(world: Any) -> None:
    token = sign_in.issue_login_token(world.ctx.database, world.clock, user="ada")
    client = world.anonymous()
    answer = client.get("/login", params={"token": token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Max-Age=43200" in cookie
    assert client.get("/api/v1/me").json()["name"] == "ada"
    again = world.anonymous().get("/login", params={"token": token})
    assert again.status_code == 401
    assert "used before or has expired" in again.json()["detail"]


def test_a_link_expires(world: Any) -> None:
    token = sign_in.issue_login_token(world.ctx.database, world.clock, user="ada", ttl_s=60)
    world.clock.sleep(61)
    answer = world.anonymous().post("/api/v1/session", json={"token": token})
    assert answer.status_code == 401


def test_a_session_ends_by_time_and_by_logout(world: Any) -> None:
    client, other = world.browser(), world.browser()
    world.clock.sleep(11 * 3600)
    assert client.get("/api/v1/me").status_code == 200
    stolen = client.cookies["quintile_session"]
    assert client.post("/api/v1/logout").status_code == 204
    thief = world.anonymous()
    thief.cookies.set("quintile_session", stolen)
    assert thief.get("/api/v1/me").status_code == 401
    world.clock.sleep(2 * 3600)
    assert other.get("/api/v1/me").status_code == 401


def test_a_cookie_of_our_own_making_only(world: Any) -> None:
    client = world.browser()
    session_id, _, mac = client.cookies["quintile_session"].partition(".")
    forged = world.anonymous()
    forged.cookies.set("quintile_session", f"{session_id}.{'0' * len(mac)}")
    assert forged.get("/api/v1/me").status_code == 401


def test_an_api_token_is_shown_once_and_stored_as_a_digest(world: Any) -> None:
    client = world.browser()
    made = client.post("/api/v1/tokens", json={"name": "notebook", "days": 1}).json()
    secret = made["token"]
    listed = client.get("/api/v1/tokens").json()["items"]
    assert [entry["name"] for entry in listed] == ["notebook"]
    assert "token" not in listed[0]
    assert secret.encode() not in databases.contents(world.folder / "api.db")
    program = world.bearer(secret)
    assert program.get("/api/v1/me").json()["name"] == "ada"
    assert client.get("/api/v1/tokens").json()["items"][0]["last_used"] == world.clock.now()
    assert client.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
    assert program.get("/api/v1/me").status_code == 401


def test_an_api_token_expires(world: Any) -> None:
    made = world.browser().post("/api/v1/tokens", json={"name": "n", "days": 1}).json()
    world.clock.sleep(86_401)
    assert world.bearer(made["token"]).get("/api/v1/me").status_code == 401


def test_the_scope_of_a_token_caps_its_owner(world: Any) -> None:
    made = world.browser().post("/api/v1/tokens", json={"name": "n", "scope": "viewer"}).json()
    program = world.bearer(made["token"])
    assert program.get("/api/v1/projects").json()["items"] == [
        {"name": "default", "role": "viewer"}
    ]
    refused = program.post("/api/v1/projects/default/experiments", json={"name": "x", "spec": {}})
    assert refused.status_code == 403
    assert program.get("/api/v1/users").status_code == 403
    more = program.post("/api/v1/tokens", json={"name": "m", "scope": "admin"})
    assert more.status_code == 403


def test_a_token_cannot_make_a_stronger_one(world: Any) -> None:
    made = world.browser().post("/api/v1/tokens", json={"name": "n", "scope": "viewer"}).json()
    weak = world.bearer(made["token"])
    assert weak.post("/api/v1/tokens", json={"name": "m", "scope": "manager"}).status_code == 403
    assert weak.post("/api/v1/tokens", json={"name": "m", "scope": "viewer"}).status_code == 201
    strong = world.browser().post("/api/v1/tokens", json={"name": "s"}).json()
    assert weak.delete(f"/api/v1/tokens/{strong['id']}").status_code == 403
    assert world.bearer(strong["token"]).get("/api/v1/me").status_code == 200


def test_services_ask_who_holds_credentials(world: Any) -> None:
    service, browser = world.service(), world.browser()
    by_cookie = service.get(
        "/api/v1/identity",
        headers={"X-Quintile-Forwarded-Cookie": browser.cookies["quintile_session"]},
    )
    assert by_cookie.json()["name"] == "ada"
    viewer = world.member("viewer")
    by_token = service.get(
        "/api/v1/identity",
        headers={"X-Quintile-Forwarded-Authorization": viewer.headers["Authorization"]},
    )
    assert by_token.json()["roles"] == {"default": "viewer"}
    nobody = service.get(
        "/api/v1/identity", headers={"X-Quintile-Forwarded-Authorization": "Bearer qt_x_y"}
    )
    assert nobody.status_code == 401
    curious = viewer.get(
        "/api/v1/identity", headers={"X-Quintile-Forwarded-Authorization": "Bearer qt_x_y"}
    )
    assert curious.status_code == 403
    assert viewer.get("/api/v1/identity").json()["name"] == "viewer"


def test_an_admin_invites_somebody(world: Any) -> None:
    admin = world.browser()
    assert admin.post("/api/v1/users", json={"name": "grace"}).status_code == 201
    assert admin.post("/api/v1/users", json={"name": "grace"}).status_code == 409
    link = admin.post("/api/v1/users/grace/login-link").json()["url"]
    grace = world.anonymous()
    assert grace.get(link).status_code == 303
    assert grace.get("/api/v1/projects").json()["items"] == []
    admin.put("/api/v1/projects/default/members/grace", json={"role": "labeler"})
    assert grace.get("/api/v1/projects").json()["items"] == [{"name": "default", "role": "labeler"}]
    admin.delete("/api/v1/projects/default/members/grace")
    assert grace.get("/api/v1/projects").json()["items"] == []


def test_nobody_changes_their_own_role(world: Any) -> None:
    head = world.member("admin")
    answer = head.put("/api/v1/projects/default/members/admin", json={"role": "viewer"})
    assert answer.status_code == 403
    assert head.delete("/api/v1/projects/default/members/admin").status_code == 403


def test_every_change_of_a_person_is_sealed_in_the_audit(world: Any) -> None:
    admin = world.browser()
    admin.post("/api/v1/users", json={"name": "grace"})
    admin.post("/api/v1/users", json={"name": "grace"})
    admin.get("/api/v1/users")
    with world.ctx.database.read() as session:
        rows = session.scalars(sa.select(tables.AuditRow).order_by(tables.AuditRow.id)).all()
    assert [(row.actor, row.path, row.status) for row in rows] == [
        ("ada", "/api/v1/users", 201),
        ("ada", "/api/v1/users", 409),
    ]
    before = audit.GENESIS
    for row in rows:
        assert row.digest == audit.seal(before, row)
        before = row.digest


def test_the_first_admin_is_made_once(world: Any) -> None:
    database, clock = world.ctx.database, world.clock
    assert sign_in.seed(database, clock, admin="eve", projects=("default",)) == "ada"
    with database.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(tables.User)) == 1


def test_a_client_token_is_known_until_it_expires(world: Any) -> None:
    database, clock = world.ctx.database, world.clock
    token = sign_in.issue_api_token(database, clock, user="ada", name="client")
    assert sign_in.is_token_good(database, clock, token)
    assert not sign_in.is_token_good(database, clock, token[:-1] + "!")
    clock.sleep(366 * 86_400)
    assert not sign_in.is_token_good(database, clock, token)
