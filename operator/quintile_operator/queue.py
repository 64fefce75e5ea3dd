"""Keys that want a look: deduplicated, delayed, one worker per key at a time, with back-off.

Called by ``quintile_operator.loop``. A key that is marked while a worker looks at it comes again
when that worker is done, so no mark is ever lost.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable
from typing import Final

from quintile.core import meta

BACKOFF_BASE_S: Final = 0.5
BACKOFF_LIMIT_S: Final = 60.0


class KeyQueue:
    """A queue of keys by due time. Thread-safe.

    Args:
        monotonic: Seconds of a clock that never goes back.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._due: dict[meta.Key, float] = {}
        self._heap: list[tuple[float, int, meta.Key]] = []
        self._count = itertools.count()
        self._busy: set[meta.Key] = set()
        self._failures: dict[meta.Key, int] = {}
        self._closed = False

    def mark(self, key: meta.Key, *, delay_s: float = 0.0) -> None:
        """Ask for a look at ``key`` in ``delay_s`` seconds at the latest."""
        with self._changed:
            self._mark(key, self._monotonic() + max(delay_s, 0.0))

    def take(self, *, timeout_s: float | None = None) -> meta.Key | None:
        """Return the next due key and keep it from other workers until ``done`` or ``retry``.

        Blocks; returns None after ``timeout_s``, or when the queue is closed.
        """
        limit = None if timeout_s is None else self._monotonic() + timeout_s
        with self._changed:
            while not self._closed:
                now = self._monotonic()
                due = self._next_due()
                if due is not None and due <= now:
                    key = heapq.heappop(self._heap)[2]
                    del self._due[key]
                    self._busy.add(key)
                    return key
                if limit is not None and now >= limit:
                    return None
                ends = [end for end in (due, limit) if end is not None]
                self._changed.wait(min(ends) - now if ends else None)
        return None

    def done(self, key: meta.Key, *, again_s: float | None = None) -> None:
        """Give a key back after a good look; look again in ``again_s`` seconds if given."""
        with self._changed:
            self._failures.pop(key, None)
            self._release(key, again_s)

    def retry(self, key: meta.Key, *, least_s: float = 0.0) -> float:
        """Give a key back after a failed look; return the seconds until the next one."""
        with self._changed:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
            full_s = min(BACKOFF_LIMIT_S, BACKOFF_BASE_S * 2.0 ** min(failures, 10))
            # Half fixed, half by chance, so that keys that failed together do not return together.
            delay_s = max(least_s, full_s * (0.5 + 0.5 * random.random()))
            self._release(key, delay_s)
            return delay_s

    def close(self) -> None:
        """Let every ``take`` return None from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def depth(self) -> int:
        """How many keys wait, delayed ones too."""
        with self._changed:
            return len(self._due)

    @property
    def busy(self) -> int:
        """How many keys workers look at."""
        with self._changed:
            return len(self._busy)

    def _release(self, key: meta.Key, again_s: float | None) -> None:
        self._busy.discard(key)
        marked = self._due.get(key)
        if marked is not None:
            # Marked while it was looked at; its place in the heap was kept out of reach.
            heapq.heappush(self._heap, (marked, next(self._count), key))
        if again_s is not None:
            self._mark(key, self._monotonic() + max(again_s, 0.0))
        self._changed.notify_all()

    def _mark(self, key: meta.Key, when: float) -> None:
        known = self._due.get(key)
        if known is not None and known <= when:
            return
        self._due[key] = when
        if key not in self._busy:
            heapq.heappush(self._heap, (when, next(self._count), key))
            self._changed.notify()

    def _next_due(self) -> float | None:
        """Return when the next free key is due; entries that no longer count are dropped."""
        while self._heap:
            when, _, key = self._heap[0]
            if key not in self._busy and self._due.get(key) == when:
                return when
            heapq.heappop(self._heap)
        return None
