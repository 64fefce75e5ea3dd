"""Where marks come from: resources that changed, facts that were reported, the passing of time.

Called by ``quintile_operator.loop``, which gives each source a thread. A source only marks keys;
what a mark leads to is the same wherever it came from.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from quintile import logs, ports
from quintile.core import errors, meta
from quintile_operator import reconciler

_LOG: Final = logs.get(__name__)


@dataclass(frozen=True)
class Pace:
    """How many workers there are and how long things wait, in seconds."""

    workers: int = 4
    resync_s: float = 300.0
    slice_s: float = 1.0
    retry_s: float = 1.0


class Marks(Protocol):
    """Takes what a source found."""

    def mark(self, key: meta.Key) -> None:
        """Ask for a look at a key soon."""
        ...

    def mark_all(self) -> None:
        """Ask for a look at everything that there is."""
        ...


class Source(Protocol):
    """Marks keys in a thread of its own."""

    @property
    def name(self) -> str:
        """What its thread and its log lines are called."""
        ...

    def follow(self, marks: Marks, stopped: threading.Event) -> None:
        """Block and mark until ``stopped``. Called again when it returns or raises."""
        ...


class StoreWatch:
    """Watches a ResourceStore itself; now and then everything is marked.

    Args:
        resources: Watched for changes of desired state and of status.
        pace: How often everything is marked.
    """

    name = "operator-watch"

    def __init__(self, resources: ports.ResourceStore, pace: Pace) -> None:
        self._resources = resources
        self._pace = pace

    def follow(self, marks: Marks, stopped: threading.Event) -> None:
        """Mark everything, then what changes, until it is time to mark everything again."""
        version = self._resources.list(reconciler.KINDS[0]).version
        marks.mark_all()
        deadline = time.monotonic() + self._pace.resync_s
        while not stopped.is_set() and time.monotonic() < deadline:
            for change in self._resources.watch(
                reconciler.KINDS, since=version, wait_s=self._pace.slice_s
            ):
                version = change.version
                for key in touched(change.document):
                    marks.mark(key)
                if stopped.is_set() or time.monotonic() >= deadline:
                    return


class FactsTail:
    """Tails what agents and people did.

    Args:
        facts: The outboxes.
        pace: How long one request waits.
    """

    name = "operator-facts"

    def __init__(self, facts: ports.Facts, pace: Pace) -> None:
        self._facts = facts
        self._pace = pace

    def follow(self, marks: Marks, stopped: threading.Event) -> None:
        """Mark everything, then what facts are about."""
        cursor = self._facts.changed("", wait_s=0).cursor
        # What happened before the cursor is in the facts that these looks read.
        marks.mark_all()
        while not stopped.is_set():
            try:
                changes = self._facts.changed(cursor, wait_s=self._pace.slice_s)
            except errors.Unavailable as error:
                _LOG.warning("the facts are away", error=str(error))
                stopped.wait(self._pace.retry_s)
                continue
            cursor = changes.cursor
            for key in changes.keys:
                marks.mark(key)


class Resync:
    """Marks everything at the start and from time to time, for sources that see changes alone."""

    name = "operator-resync"

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def follow(self, marks: Marks, stopped: threading.Event) -> None:
        """Mark everything, and wait."""
        marks.mark_all()
        stopped.wait(self._pace.resync_s)


def local(resources: ports.ResourceStore, facts: ports.Facts, pace: Pace) -> tuple[Source, ...]:
    """Return the sources of a driver that needs nothing but its ports."""
    return (StoreWatch(resources, pace), FactsTail(facts, pace))


def touched(document: meta.Document) -> Iterator[meta.Key]:
    """Yield the keys that want a look when this resource changed: itself, and its owners."""
    own = meta.key_of(document)
    yield own
    for owner in document["metadata"].get("ownerReferences", []):
        if owner["kind"] in reconciler.KINDS:
            yield meta.Key(owner["kind"], own.namespace, owner["name"])
