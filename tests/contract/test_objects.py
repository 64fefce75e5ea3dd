"""ObjectStore: the fake and the directory keep the contract; the directory is safe besides."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from quintile import ports
from quintile.adapters import object_directory, signed_urls
from quintile.core import errors
from quintile.testing import objects

URLS = signed_urls.UrlSigner(b"k" * 32, base_url="http://localhost")
GONE_URLS: list[tuple[str, signed_urls.Method, float]] = [
    ("a/c", "GET", 0.0),
    ("a/b", "PUT", 0.0),
    ("a/b", "GET", 2e9),
]


class StoppedClock:
    """A clock that stands still."""

    def now(self) -> float:
        return 1_800_000_000.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nothing here waits {seconds} s")


def directory(root: pathlib.Path) -> object_directory.DirectoryObjectStore:
    return object_directory.DirectoryObjectStore(root, urls=URLS, clock=StoppedClock())


class TestFake(objects.ObjectStoreContract):
    @pytest.fixture
    def store(self) -> ports.ObjectStore:
        return objects.FakeObjectStore()

    def test_a_full_store_keeps_nothing(self) -> None:
        store = objects.FakeObjectStore(room_bytes=10)
        store.put("a", b"12345")
        with pytest.raises(errors.StoreFull):
            store.put("b", b"123456")
        assert [info.key for info in store.list("")] == ["a"]


class TestDirectory(objects.ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path: pathlib.Path) -> ports.ObjectStore:
        return directory(tmp_path / "store")


def test_objects_survive_a_restart(tmp_path: pathlib.Path) -> None:
    directory(tmp_path).put("a/b", b"kept")
    assert directory(tmp_path).get("a/b") == b"kept"


def test_links_below_the_root_are_not_followed(tmp_path: pathlib.Path) -> None:
    store = directory(tmp_path / "store")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    (tmp_path / "store/objects/link").symlink_to(tmp_path / "outside")
    (tmp_path / "store/objects/file").symlink_to(tmp_path / "outside" / "secret")
    for call in (
        lambda: store.get("link/secret"),
        lambda: store.get("file"),
        lambda: store.put("link/new", b"x"),
        lambda: store.put("file", b"secret"),
    ):
        with pytest.raises((errors.Forbidden, errors.Conflict)):
            call()
    assert list(store.list("")) == []
    assert sorted(path.name for path in (tmp_path / "outside").iterdir()) == ["secret"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: pathlib.Path) -> None:
    """A process whose files may have 1 MB at most meets the same refusal as on a full disk."""
    script = """
import pathlib, resource, sys
from quintile.adapters import object_directory, signed_urls
from quintile.core import errors
urls = signed_urls.UrlSigner(b"k" * 32, base_url="http://localhost")
root = pathlib.Path(sys.argv[1])
store = object_directory.DirectoryObjectStore(root, urls=urls, clock=None)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    store.put("a/b", b"x" * (1 << 21))
except errors.StoreFull as error:
    sys.exit(str(error))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr.strip() == (
        "No room left to store object 'a/b'; nothing was kept. "
        "Free disk space (or raise the quota), then try again."
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_urls_are_signed_for_one_key_method_and_time(tmp_path: pathlib.Path) -> None:
    url = directory(tmp_path).url("a/b", method="GET", ttl_s=60)
    signature = url.rpartition("signature=")[2]
    assert url.startswith("http://localhost/api/v1/bytes/a/b?expires=1800000060&signature=")

    def verify(key: str, method: signed_urls.Method, now_s: float) -> None:
        URLS.verify(key, method=method, expires_s=1_800_000_060, signature=signature, now_s=now_s)

    verify("a/b", "GET", 1_800_000_059.0)
    for key, method, now_s in GONE_URLS:
        with pytest.raises(errors.Forbidden):
            verify(key, method, now_s)
