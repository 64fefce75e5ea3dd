"""Port ``Facts`` out of its halves: the API's and the labeling service's, joined by their cursors.

In one process the halves are the readers of the two services; in a cluster they speak HTTP
(``facts_http``).
"""

from __future__ import annotations

import time
from typing import Final, Protocol

from quintile.adapters import signals
from quintile.core import errors, facts, meta

SEPARATOR: Final = "/"
POLL_S: Final = 1.0
BEGINNING: Final = "0"


class TrialFacts(Protocol):
    """The API's half."""

    def changed(self, since: str, *, wait_s: float) -> facts.Changes:
        """Return changed keys; see the port."""
        ...

    def trial(self, uid: str) -> facts.TrialFacts:
        """Return the facts of a trial; see the port."""
        ...


class JobFacts(Protocol):
    """The labeling service's half."""

    def changed(self, since: str, *, wait_s: float) -> facts.Changes:
        """Return changed keys; see the port."""
        ...

    def job(self, uid: str) -> facts.JobFacts | None:
        """Return the facts of a labeling job; see the port."""
        ...

    def admit(self, document: meta.Document) -> facts.JobFacts:
        """Take a labeling job; see the port."""
        ...


class JoinedFacts:
    """Port ``Facts``. A cursor is both halves' cursors; ``bell`` rings for a change of either.

    One half that is away does not hold up the other: its part of the cursor stays where it is.
    ``poll_s``: how often to look although no bell rang.
    """

    def __init__(
        self,
        trials: TrialFacts,
        jobs: JobFacts,
        *,
        bell: signals.Signal,
        poll_s: float = POLL_S,
    ) -> None:
        self._trials = trials
        self._jobs = jobs
        self._bell = bell
        self._poll_s = poll_s

    def changed(self, since: str, *, wait_s: float) -> facts.Changes:
        """Return keys changed after ``since``; see the port."""
        first, second = _halves(since)
        deadline = time.monotonic() + wait_s
        while True:
            version = self._bell.version
            left, right = self._look(first, second)
            keys = tuple(dict.fromkeys((*left.keys, *right.keys)))
            patience_s = deadline - time.monotonic()
            if keys or not since or patience_s <= 0:
                return facts.Changes(keys=keys, cursor=f"{left.cursor}{SEPARATOR}{right.cursor}")
            self._bell.wait(version, timeout_s=min(patience_s, self._poll_s))

    def _look(self, first: str, second: str) -> tuple[facts.Changes, facts.Changes]:
        found: list[facts.Changes] = []
        away: list[errors.Unavailable] = []
        for half, since in ((self._trials, first), (self._jobs, second)):
            try:
                found.append(half.changed(since, wait_s=0))
            except errors.Unavailable as error:
                # Without a cursor yet: all that it will tell, rather than miss something.
                found.append(facts.Changes(keys=(), cursor=since or BEGINNING))
                away.append(error)
        if len(away) == len(found):
            raise away[0]
        return found[0], found[1]

    def trial(self, uid: str) -> facts.TrialFacts:
        """Return the facts of a trial; see the port."""
        return self._trials.trial(uid)

    def job(self, uid: str) -> facts.JobFacts | None:
        """Return the facts of a labeling job; see the port."""
        return self._jobs.job(uid)

    def admit(self, document: meta.Document) -> facts.JobFacts:
        """Hand a labeling job to the labeling service; see the port."""
        return self._jobs.admit(document)


def _halves(cursor: str) -> tuple[str, str]:
    if not cursor:
        return "", ""
    first, separator, second = cursor.partition(SEPARATOR)
    if not (first and separator and second):
        raise errors.InvalidSpec(
            f"{cursor!r} is not a cursor.",
            hint="Pass the cursor of the last answer.",
            field="since",
        )
    return first, second
