"""Keeps looking at every resource that changed. Threads, a queue, no decisions.

A thread for each source of marks, and a few that look at keys. The sources differ between one
machine (``sources.local``) and a cluster (``handlers``); all else is the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from quintile import logs
from quintile.core import errors, meta
from quintile_operator import queue, sources

Pace = sources.Pace
LONGEST_PAUSE_S: Final = 10.0
_LOG: Final = logs.get(__name__)


class Looks(Protocol):
    """What a loop drives; ``reconciler.Reconciler`` is one."""

    def reconcile(self, key: meta.Key) -> float | None:
        """Look at a key; return the seconds until it wants another look anyway."""
        ...

    def known_keys(self) -> tuple[meta.Key, ...]:
        """Return every key that may want a look."""
        ...


class Watcher(Protocol):
    """Is told about every look, for figures. Must not raise."""

    def looked(self, key: meta.Key, *, seconds: float, failed: bool) -> None:
        """Note one look."""
        ...


class Loop:
    """Drives one reconciler. ``start`` once; ``stop`` as often as you like.

    Args:
        looks: Looks at a key.
        origins: Where marks come from; a thread each.
        pace: How many workers, how often.
        watcher: Told about every look.
    """

    def __init__(
        self,
        looks: Looks,
        origins: Sequence[sources.Source],
        *,
        pace: Pace = Pace(),  # noqa: B008 frozen
        watcher: Watcher | None = None,
    ) -> None:
        self._looks = looks
        self._origins = tuple(origins)
        self._pace = pace
        self._watcher = watcher
        self._queue = queue.KeyQueue()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to work, in threads of our own."""
        jobs: list[tuple[str, Callable[[], None]]] = [
            (origin.name, self._persist(origin)) for origin in self._origins
        ]
        jobs += [(f"operator-{n}", self._work) for n in range(self._pace.workers)]
        for name, work in jobs:
            thread = threading.Thread(target=work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, *, timeout_s: float = 10.0) -> bool:
        """Finish the looks under way and end; return whether all threads ended in time."""
        self._stopped.set()
        self._queue.close()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def mark(self, key: meta.Key, *, delay_s: float = 0.0) -> None:
        """Ask for a look at a key soon; callable from any thread, also for a key that is gone."""
        self._queue.mark(key, delay_s=delay_s)

    def mark_all(self) -> None:
        """Ask for a look at everything that there is."""
        for key in self._looks.known_keys():
            self._queue.mark(key)

    @property
    def depth(self) -> int:
        """How many keys wait for a look, delayed ones too."""
        return self._queue.depth

    @property
    def busy(self) -> int:
        """How many keys are looked at at this moment."""
        return self._queue.busy

    def _work(self) -> None:
        while (key := self._queue.take()) is not None:
            begun = time.monotonic()
            failed = True
            try:
                self._queue.done(key, again_s=self._looks.reconcile(key))
                failed = False
            except errors.QuintileError as error:
                least_s = error.retry_after_s if isinstance(error, errors.Unavailable) else 0.0
                delay_s = self._queue.retry(key, least_s=least_s)
                _LOG.warning("a look failed", key=str(key), error=str(error), again_s=delay_s)
            except Exception:  # the boundary of a worker: one bad resource must not stop the others
                delay_s = self._queue.retry(key)
                _LOG.exception("a look broke", key=str(key), again_s=delay_s)
            if self._watcher is not None:
                self._watcher.looked(key, seconds=time.monotonic() - begun, failed=failed)

    def _persist(self, origin: sources.Source) -> Callable[[], None]:
        """Return ``origin`` followed until the loop stops, with growing pauses after errors."""

        def run() -> None:
            pause_s = self._pace.retry_s
            while not self._stopped.is_set():
                try:
                    origin.follow(self, self._stopped)
                    pause_s = self._pace.retry_s
                    continue
                except errors.QuintileError as error:
                    _LOG.warning("a source is away", source=origin.name, error=str(error))
                except Exception:  # the boundary of a thread: without it nothing is seen any more
                    _LOG.exception("a source broke", source=origin.name)
                self._stopped.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

        return run
