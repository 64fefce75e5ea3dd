"""Signed object URLs: one key, one method, until they expire; ranges; caps."""

from __future__ import annotations

from typing import Any

import pytest


def test_a_signed_url_writes_and_reads_one_object(world: Any) -> None:
    client = world.anonymous()
    put = world.objects.url("a/b", method="PUT", ttl_s=60)
    assert client.put(put, content=b"0123456789").status_code == 201
    get = world.objects.url("a/b", method="GET", ttl_s=60)
    answer = client.get(get)
    assert answer.content == b"0123456789"
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("header", "status", "body", "place"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
    ],
)
def test_ranges(world: Any, header: str, status: int, body: bytes, place: str | None) -> None:
    world.objects.put("a/b", b"0123456789")
    url = world.objects.url("a/b", method="GET", ttl_s=60)
    answer = world.anonymous().get(url, headers={"Range": header})
    assert (answer.status_code, answer.content) == (status, body)
    assert answer.headers.get("content-range") == place


def test_a_url_opens_nothing_else(world: Any) -> None:
    world.objects.put("a/b", b"x")
    world.objects.put("a/c", b"y")
    client = world.anonymous()
    get = world.objects.url("a/b", method="GET", ttl_s=60)
    for other in (
        get.replace("a/b", "a/c"),
        get.replace("signature=", "signature=0"),
        get.replace("expires=", "expires=1"),
    ):
        assert client.get(other).status_code == 403
    assert client.put(get, content=b"z").status_code == 403
    assert client.get(get.split("?")[0]).status_code == 422
    world.clock.sleep(61)
    late = client.get(get)
    assert late.status_code == 403
    assert "expired" in late.json()["detail"]


def test_a_missing_object_is_404(world: Any) -> None:
    url = world.objects.url("no/thing", method="GET", ttl_s=60)
    assert world.anonymous().get(url).status_code == 404


def test_an_object_over_the_cap_is_refused_and_not_kept(world: Any) -> None:
    world.restart(object_limit_bytes=1024)
    url = world.objects.url("big", method="PUT", ttl_s=60)
    assert world.anonymous().put(url, content=b"x" * 2000).status_code == 413
    assert list(world.objects.list("big")) == []


def test_a_body_that_ends_early_is_not_kept(world: Any) -> None:
    url = world.objects.url("short", method="PUT", ttl_s=60)
    answer = world.anonymous().put(url, content=b"abc", headers={"Content-Length": "10"})
    assert answer.status_code == 422
    assert "3 of 10" in answer.json()["detail"]
    assert list(world.objects.list("short")) == []
