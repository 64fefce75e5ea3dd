"""Files by URL, kept on this machine under their SHA-256: fetched once, checked, shared."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import random
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from quintile_trainer import failures

TRIES = 8
PIECE_BYTES = 1024 * 1024
TIMEOUT_S = 60.0
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 8.0
AGAIN = frozenset({408, 425, 429})
"""Refusals that are about now, beside all answers from 500 up."""
# Presigned URLs lead to our own store; a proxy for the outer world has no place in between.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_Take = Callable[[IO[bytes]], str]


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
            return path
        with self._lock(sha256):
            if not path.exists():
                self._download(url, sha256, path)
        return path

    def _download(self, url: str, sha256: str, path: Path) -> None:
        temporary = path.with_name(f".{sha256}.{os.getpid()}")

        def save(response: IO[bytes]) -> str:
            with temporary.open("wb") as file:
                shutil.copyfileobj(response, file, PIECE_BYTES)
            found = _digest(temporary)
            return "" if found == sha256 else f"its SHA-256 is {found[:12]}, not {sha256[:12]}"

        try:
            _persist(url, save)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with (self._folder / f".{name}.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def read(url: str) -> bytes:
    """Return the bytes behind a URL, not kept.

    Raises:
        Broken: It cannot be read after several tries.
    """
    pieces: list[bytes] = []

    def keep(response: IO[bytes]) -> str:
        pieces[:] = [response.read()]
        return ""

    _persist(url, keep)
    return pieces[0]


def _persist(url: str, take: _Take) -> None:
    """Open a URL and let ``take`` read it, again and again while what it says is no success."""
    pause_s, problem = FIRST_PAUSE_S, ""
    for left in reversed(range(TRIES)):
        try:
            with _OPENER.open(url, timeout=TIMEOUT_S) as response:
                problem = take(response)
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code}"
            if error.code < 500 and error.code not in AGAIN:
                break
        except (OSError, http.client.HTTPException) as error:
            if failures.is_full(error):
                raise
            problem = f"{type(error).__name__}: {error}"
        if not problem:
            return
        if left:
            time.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    place, _, signature = url.partition("?")
    said = problem.replace(signature, "...") if signature else problem
    raise failures.Broken(f"{place} could not be read: {said}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
