"""Facts in memory: a test says what agents and people did."""

from __future__ import annotations

import threading
import time

from quintile.core import errors, facts, meta


class FakeFacts:
    """Snapshots by uid and a log of changed keys. Thread-safe.

    Attributes:
        refusal: Raised by ``admit`` instead of taking a job.
        away: Whether everything raises ``Unavailable``.
        admitted: The documents that were handed over, in order.
    """

    def __init__(self) -> None:
        self._trials: dict[str, facts.TrialFacts] = {}
        self._jobs: dict[str, facts.JobFacts] = {}
        self._log: list[meta.Key] = []
        self._changed = threading.Condition()
        self.refusal: errors.InvalidSpec | None = None
        self.away = False
        self.admitted: list[meta.Document] = []

    def put_trial(self, key: meta.Key, known: facts.TrialFacts) -> None:
        """Let agents have reported this about a trial."""
        with self._changed:
            self._trials[known.uid] = known
            self._note(key)

    def put_job(self, key: meta.Key, known: facts.JobFacts) -> None:
        """Let the labeling service know this of a job."""
        with self._changed:
            self._jobs[known.uid] = known
            self._note(key)

    def changed(self, since: str, *, wait_s: float) -> facts.Changes:
        """Return changed keys after the cursor."""
        deadline = time.monotonic() + wait_s
        with self._changed:
            self._check()
            place = int(since) if since else len(self._log)
            while since and len(self._log) == place and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            keys = tuple(dict.fromkeys(self._log[place:]))
            return facts.Changes(keys=keys, cursor=str(len(self._log)))

    def trial(self, uid: str) -> facts.TrialFacts:
        """Return the facts of a trial."""
        with self._changed:
            self._check()
            return self._trials.get(uid, facts.TrialFacts(uid=uid))

    def job(self, uid: str) -> facts.JobFacts | None:
        """Return the facts of a labeling job."""
        with self._changed:
            self._check()
            return self._jobs.get(uid)

    def admit(self, document: meta.Document) -> facts.JobFacts:
        """Take a labeling job; a new one begins with nothing but its first round."""
        with self._changed:
            self._check()
            if self.refusal is not None:
                raise self.refusal
            self.admitted.append(document)
            uid = document["metadata"]["uid"]
            if uid not in self._jobs:
                self._jobs[uid] = facts.JobFacts(uid=uid, state="importing")
                self._note(meta.key_of(document))
            return self._jobs[uid]

    def _note(self, key: meta.Key) -> None:
        self._log.append(key)
        self._changed.notify_all()

    def _check(self) -> None:
        if self.away:
            raise errors.Unavailable("The services are away.")
