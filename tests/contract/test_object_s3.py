"""ObjectStore on a real S3: the contract, races, presigned URLs, and what is said when it fails."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pathlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent import futures

import pytest

from quintile import ports
from quintile.adapters import object_s3
from quintile.core import errors
from quintile.testing import objects, real_s3
from quintile_trainer.agent import link

MIB = 1024 * 1024


@pytest.fixture
def place() -> Iterator[real_s3.Place]:
    found = real_s3.place()
    if found is None:
        pytest.skip(real_s3.MISSING)
    with real_s3.fresh_bucket(found) as made:
        yield made


@pytest.fixture
def store(place: real_s3.Place) -> object_s3.S3ObjectStore:
    return place.open()


class TestS3(objects.ObjectStoreContract):
    folders = False

    @pytest.fixture
    def store(self, place: real_s3.Place) -> ports.ObjectStore:
        return place.open()


def test_a_large_stream_goes_in_parts(store: object_s3.S3ObjectStore) -> None:
    body = bytes(range(256)) * 4096 * 34  # 34 MiB: three parts, the last one short
    info = store.put("big", io.BytesIO(body))
    assert info.sha256 == hashlib.sha256(body).hexdigest()
    assert store.get("big", start=33 * MIB) == body[33 * MIB :]
    assert store.put("big", io.BytesIO(body)) == info
    with pytest.raises(errors.Conflict):
        store.put("big", io.BytesIO(body[:-1] + b"x"))
    with pytest.raises(errors.Conflict):
        store.put("big", b"small")


def test_of_writers_that_race_with_other_bytes_one_wins(store: object_s3.S3ObjectStore) -> None:
    bodies = [bytes([n]) * (17 * MIB if n % 2 else 1000) for n in range(6)]

    def write(body: bytes) -> bytes | None:
        try:
            store.put("raced", body)
        except errors.Conflict:
            return None
        return body

    with futures.ThreadPoolExecutor(6) as pool:
        won = [body for body in pool.map(write, bodies) if body is not None]
    assert [store.get("raced")] == won


def test_agents_write_and_read_by_url(
    store: object_s3.S3ObjectStore, tmp_path: pathlib.Path
) -> None:
    for name, body in (("weights", b"x" * (5 * MIB)), ("empty", b"")):
        path = tmp_path / name
        path.write_bytes(body)
        link.put_file(store.url(f"a/{name}", method="PUT", ttl_s=60), path)
        assert store.get(f"a/{name}") == body
        read = tmp_path / f"{name}.read"
        link.get_file(
            store.url(f"a/{name}", method="GET", ttl_s=60),
            read,
            sha256=hashlib.sha256(body).hexdigest(),
            size_bytes=len(body),
        )
        assert read.read_bytes() == body
    with pytest.raises(link.Refused):
        link.get_small(store.url("a/none", method="GET", ttl_s=60))


def test_what_came_by_url_is_compared_by_its_bytes(store: object_s3.S3ObjectStore) -> None:
    """No digest lies beside an object that an agent wrote."""
    url = store.url("a", method="PUT", ttl_s=60)
    urllib.request.urlopen(urllib.request.Request(url, data=b"body", method="PUT")).close()
    store.put("a", b"body")
    with pytest.raises(errors.Conflict):
        store.put("a", b"other")


@pytest.mark.parametrize("change", ["method", "key", "signature"])
def test_a_url_opens_one_key_by_one_method(store: object_s3.S3ObjectStore, change: str) -> None:
    store.put("a", b"1")
    store.put("b", b"2")
    url = store.url("a", method="GET", ttl_s=60)
    method = "PUT" if change == "method" else "GET"
    if change == "key":
        url = url.replace("/a?", "/b?")
    if change == "signature":
        url = url[:-1] + ("0" if url[-1] != "0" else "1")
    request = urllib.request.Request(url, data=b"x" if method == "PUT" else None, method=method)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 403
    caught.value.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"secret_key": "wrong-secret"}, "refuses our key .*SECRET_KEY"),
        ({"access_key": "nobody"}, "refuses our key .*ACCESS_KEY"),
        ({"bucket": "quintile-no-such-bucket"}, "has no bucket .*S3__BUCKET"),
        ({"endpoint": "http://127.0.0.1:9"}, "does not answer .*S3__ENDPOINT"),
    ],
    ids=["secret", "key", "bucket", "endpoint"],
)
def test_what_is_set_up_wrongly_is_named(
    place: real_s3.Place, change: dict[str, str], words: str
) -> None:
    wrong = dataclasses.replace(place, **change).open()
    for call in (
        wrong.check,
        lambda: wrong.put("a", b"1"),
        lambda: wrong.get("a"),
        lambda: list(wrong.list("")),
    ):
        with pytest.raises(errors.Unavailable, match=words):
            call()


def test_an_address_that_is_none_is_refused(place: real_s3.Place) -> None:
    place.open().check()
    with pytest.raises(errors.InvalidSpec, match="QUINTILE_S3__ENDPOINT"):
        dataclasses.replace(place, endpoint="store.example.com:9000").open()
