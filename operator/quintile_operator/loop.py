"""The local driver: keeps looking at every resource that changed. Threads, a queue, no decisions.

Three kinds of thread: one watches the resources (and marks everything every five minutes), one
tails the facts, a few look at keys. In the cluster kopf takes this place. Both do one thing only:
mark a key.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from quintile import logs, ports
from quintile.core import errors, meta
from quintile_operator import queue, reconciler

_LOG: Final = logs.get(__name__)


@dataclass(frozen=True)
class Pace:
    """How many workers there are and how long things wait, in seconds."""

    workers: int = 4
    resync_s: float = 300.0
    slice_s: float = 1.0
    retry_s: float = 1.0


class Loop:
    """Drives one reconciler. ``start`` once; ``stop`` as often as you like.

    Args:
        reconciler: Looks at a key.
        resources: Watched for changes of desired state and of status.
        facts: Tailed for what agents and people did.
        pace: How many workers, how often.
    """

    def __init__(
        self,
        reconciler: reconciler.Reconciler,
        *,
        resources: ports.ResourceStore,
        facts: ports.Facts,
        pace: Pace = Pace(),  # noqa: B008 frozen
    ) -> None:
        self._reconciler = reconciler
        self._resources = resources
        self._facts = facts
        self._pace = pace
        self._queue = queue.KeyQueue()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to work, in threads of our own."""
        jobs: list[tuple[str, Callable[[], None]]] = [
            ("operator-watch", self._persist(self._watch)),
            ("operator-facts", self._persist(self._tail)),
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

    def mark(self, key: meta.Key) -> None:
        """Ask for a look at a key soon; callable from any thread, also for a key that is gone."""
        self._queue.mark(key)

    def _work(self) -> None:
        while (key := self._queue.take()) is not None:
            try:
                self._queue.done(key, again_s=self._reconciler.reconcile(key))
            except errors.QuintileError as error:
                least_s = error.retry_after_s if isinstance(error, errors.Unavailable) else 0.0
                delay_s = self._queue.retry(key, least_s=least_s)
                _LOG.warning("a look failed", key=str(key), error=str(error), again_s=delay_s)
            except Exception:  # the boundary of a worker: one bad resource must not stop the others
                delay_s = self._queue.retry(key)
                _LOG.exception("a look broke", key=str(key), again_s=delay_s)

    def _persist(self, follow: Callable[[], None]) -> Callable[[], None]:
        """Return ``follow`` repeated until the loop stops, with a pause after an error."""

        def run() -> None:
            while not self._stopped.is_set():
                try:
                    follow()
                except errors.QuintileError as error:
                    _LOG.warning("a source is away", source=follow.__name__, error=str(error))
                    self._stopped.wait(self._pace.retry_s)
                except Exception:  # the boundary of a thread: without it nothing is seen any more
                    _LOG.exception("a source broke", source=follow.__name__)
                    self._stopped.wait(self._pace.retry_s)

        return run

    def _watch(self) -> None:
        """Mark everything, then what changes, until it is time to mark everything again."""
        version = self._resources.list(reconciler.KINDS[0]).version
        self._mark_all()
        deadline = time.monotonic() + self._pace.resync_s
        while not self._stopped.is_set() and time.monotonic() < deadline:
            for change in self._resources.watch(
                reconciler.KINDS, since=version, wait_s=self._pace.slice_s
            ):
                version = change.version
                for key in touched(change.document):
                    self._queue.mark(key)
                if self._stopped.is_set() or time.monotonic() >= deadline:
                    return

    def _tail(self) -> None:
        cursor = self._facts.changed("", wait_s=0).cursor
        # What happened before the cursor is in the facts that these looks read.
        self._mark_all()
        while not self._stopped.is_set():
            try:
                changes = self._facts.changed(cursor, wait_s=self._pace.slice_s)
            except errors.Unavailable as error:
                _LOG.warning("the facts are away", error=str(error))
                self._stopped.wait(self._pace.retry_s)
                continue
            cursor = changes.cursor
            for key in changes.keys:
                self._queue.mark(key)

    def _mark_all(self) -> None:
        for key in self._reconciler.known_keys():
            self._queue.mark(key)


def touched(document: meta.Document) -> Iterator[meta.Key]:
    """Yield the keys that want a look when this resource changed: itself, and its owners."""
    own = meta.key_of(document)
    yield own
    for owner in document["metadata"].get("ownerReferences", []):
        if owner["kind"] in reconciler.KINDS:
            yield meta.Key(owner["kind"], own.namespace, owner["name"])
