"""Files by URL, kept on this machine under their SHA-256: fetched once, checked, shared by ranks."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from quintile_trainer import failures

TRIES = 6
PIECE_BYTES = 1024 * 1024
TIMEOUT_S = 60.0


class Cache:
    """A folder of verified files. Safe for several processes and threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def fetch(self, url: str, sha256: str) -> Path:
        """Return a local file with these contents; one process at a time fetches it.

        Raises:
            Broken: It cannot be read, or other bytes come, after several tries.
        """
        path = self._folder / sha256
        if path.exists():
            path.touch()
            return path
        with self._lock(sha256):
            if not path.exists():
                self._download(url, sha256, path)
        return path

    def _download(self, url: str, sha256: str, path: Path) -> None:
        temporary = path.with_name(f".{sha256}.{os.getpid()}")
        problem = ""
        for attempt in range(TRIES):
            try:
                found = _save(url, temporary)
            except (OSError, urllib.error.URLError) as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if found == sha256:
                    temporary.replace(path)
                    return
                problem = f"its SHA-256 is {found[:12]}, expected {sha256[:12]}"
            temporary.unlink(missing_ok=True)
            time.sleep(random.uniform(0.5, 1.0) * 0.2 * 2**attempt)
        place = url.partition("?")[0]
        raise failures.Broken(f"{place} could not be read after {TRIES} tries: {problem}")

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with (self._folder / f".{name}.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _save(url: str, path: Path) -> str:
    """Store what a URL gives; return its SHA-256."""
    with (
        urllib.request.urlopen(url, timeout=TIMEOUT_S) as response,
        path.open("wb") as file,
    ):
        shutil.copyfileobj(response, file, PIECE_BYTES)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
