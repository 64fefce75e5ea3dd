"""Host, origin, CSRF, size caps, safe headers, problem documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

TOKENS = "/api/v1/tokens"


@pytest.mark.parametrize(
    "host", ["evil.example.com", "localhost.evil.example.com", "", "127.0.0.2", "[::2]:80", "a b"]
)
def test_other_hosts_are_refused(world: Any, host: str) -> None:
    answer = world.admin().get("/api/v1/me", headers={"Host": host})
    assert answer.status_code == 403
    assert "is not served here" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["localhost", "localhost:8420", "127.0.0.1:1", "[::1]:8420"])
def test_our_hosts_are_served(world: Any, host: str) -> None:
    assert world.admin().get("/api/v1/me", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_foreign_origins_change_nothing(world: Any, method: str) -> None:
    client = world.browser()
    for origin in ("https://evil.example.com", "null", "http://localhost:1"):
        answer = client.request(method, TOKENS, headers={"Origin": origin}, json={})
        assert answer.status_code == 403
        assert "Origin" in answer.json()["detail"]
    assert client.get("/api/v1/me", headers={"Origin": "https://evil.example.com"}).is_success


def test_our_origin_may(world: Any) -> None:
    client = world.browser()
    headers = {"Origin": "http://localhost"}
    assert client.post(TOKENS, json={"name": "n"}, headers=headers).status_code == 201


def test_an_allowed_origin_may(world: Any) -> None:
    world.restart(allowed_origins=("https://console.example.com",))
    headers = {"Origin": "https://console.example.com"}
    assert world.browser().post(TOKENS, json={"name": "n"}, headers=headers).status_code == 201


def test_a_cookie_alone_changes_nothing(world: Any) -> None:
    client = world.browser()
    del client.headers["x-quintile-csrf"]
    answer = client.post(TOKENS, json={"name": "n"})
    assert answer.status_code == 403
    assert "X-Quintile-CSRF" in answer.json()["hint"]
    assert client.get(TOKENS).json()["items"] == []


def test_a_bearer_token_needs_no_csrf_header(world: Any) -> None:
    assert world.admin().post(TOKENS, json={"name": "n"}).status_code == 201


def test_a_large_body_is_refused_before_it_is_read(world: Any) -> None:
    world.restart(body_limit_bytes=2048)
    answer = world.admin().post(TOKENS, content=b"x" * 4096)
    assert answer.status_code == 413
    assert "2,048" in answer.json()["detail"]


def test_a_large_body_without_a_length_is_refused_too(world: Any) -> None:
    world.restart(body_limit_bytes=2048)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield b"x" * 1024

    answer = world.admin().post(TOKENS, content=pieces())
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_every_answer_carries_safe_headers(world: Any) -> None:
    for path in ("/healthz", "/api/v1/me", "/nowhere"):
        headers = world.anonymous().get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-trace-id"]


def test_problem_documents_have_one_form(world: Any) -> None:
    client = world.admin()
    answers = {
        404: client.get("/api/v1/nowhere"),
        405: client.post("/api/v1/version"),
        401: world.anonymous().get("/api/v1/me"),
        422: client.post(TOKENS, json={"name": ""}),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert body["status"] == status
        assert body["type"].startswith("https://quintile.dev/problems/")
        assert body["trace_id"] == answer.headers["x-trace-id"]
    assert answers[401].headers["www-authenticate"] == "Bearer"
    assert answers[405].headers["allow"] == "GET"
    assert answers[422].json()["errors"][0]["field"] == "name"


def test_what_nobody_foresaw_names_no_detail(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = world.admin()

    def broken(*_: object, **__: object) -> object:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(world.resources, "list", broken)
    answer = client.get("/api/v1/projects/default/experiments")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["trace_id"]


def test_health_needs_no_sign_in(world: Any) -> None:
    client = world.anonymous()
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok"}
    assert client.get("/api/v1/version").json()["api"] == "v1"
