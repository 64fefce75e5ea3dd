"""How the reconciler learns what agents and people did."""

from __future__ import annotations

from typing import Protocol

from quintile.core import facts, meta


class Facts(Protocol):
    """Tail of the outboxes of the API and of the labeling service, and snapshots by uid."""

    def changed(self, since: str, *, wait_s: float) -> facts.Changes:
        """Return keys changed after cursor ``since`` ("" = from now on, with no keys).

        Blocks up to ``wait_s`` while nothing changed. Ordered, at least once.
        """
        ...

    def trial(self, uid: str) -> facts.TrialFacts:
        """Return the facts of a trial; empty facts when no agent spoke yet."""
        ...

    def job(self, uid: str) -> facts.JobFacts | None:
        """Return the facts of a labeling job; None while it is not admitted."""
        ...

    def admit(self, document: meta.Document) -> facts.JobFacts:
        """Hand a LabelingJob (as stored) to the labeling service. Idempotent by uid and generation.

        Raises:
            InvalidSpec: The job can never run (no such dataset version, budget too small).
            Unavailable: The service is away.
        """
        ...
