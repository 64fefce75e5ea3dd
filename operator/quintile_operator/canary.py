"""Whether our watch is alive: every write of ours must come back through it. No I/O.

A watch can die without a word, and an operator that is blind looks healthy. So each resource that
this process wrote, or found in a list, is expected to be seen by the watch of its kind and
namespace within a time; a watch that owes one for longer counts as dead. Nothing is written for
this alone.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable
from typing import Final

from quintile.core import meta

LIMIT_S: Final = 45.0
"""How long a watch may owe a write: a closed connection, a pause and a whole new list."""

KEPT: Final = 512
Stream = tuple[str, str]
"""Kind and namespace; versions rise within it."""


class Canary:
    """What is owed by which stream, since when. Thread-safe.

    Args:
        monotonic: Seconds of a clock that never goes back.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._owed: dict[Stream, collections.deque[tuple[int, float]]] = {}
        self._newest: dict[Stream, int] = {}
        self._lock = threading.Lock()

    def expect(self, document: meta.Document) -> None:
        """Note a resource that exists in this version, so that the watch must tell of it."""
        stream, version = _place(document)
        now = self._monotonic()
        with self._lock:
            if version <= self._newest.get(stream, 0):
                return
            owed = self._owed.setdefault(stream, collections.deque())
            # Versions are kept in order, so that one that is seen pays for all before it.
            if not owed or owed[-1][0] < version:
                owed.append((version, now))
            if len(owed) > KEPT:
                # The newest say nothing that the oldest does not; that one must stay.
                owed.pop()

    def seen(self, document: meta.Document) -> None:
        """Note what the watch told of."""
        stream, version = _place(document)
        with self._lock:
            self._newest[stream] = max(version, self._newest.get(stream, 0))
            owed = self._owed.get(stream)
            while owed and owed[0][0] <= version:
                owed.popleft()
            if not owed:
                self._owed.pop(stream, None)

    def silent_s(self) -> float:
        """Return for how long the watch owes its oldest debt; 0 without one."""
        with self._lock:
            oldest = [owed[0][1] for owed in self._owed.values() if owed]
        return self._monotonic() - min(oldest) if oldest else 0.0

    def is_dead(self) -> bool:
        """Return whether a watch owes something for longer than it may."""
        return self.silent_s() > LIMIT_S


def _place(document: meta.Document) -> tuple[Stream, int]:
    key, version = meta.key_of(document), document["metadata"]["resourceVersion"]
    return (key.kind, key.namespace), int(version)
