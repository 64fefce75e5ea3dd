"""Facts on the wire: what the services answer to the operator, over the internal routes."""

from __future__ import annotations

from typing import Any

from quintile.core import facts
from quintile.core.meta import Key, Message


class ChangesView(Message):
    """Changed keys, each as ``[kind, namespace, name]``, and the cursor behind them."""

    keys: tuple[Key, ...]
    cursor: str


class TrialFactsView(Message):
    """What the API knows of a trial."""

    trial: facts.TrialFacts


class JobFactsView(Message):
    """What the labeling service knows of a job; null while it is not admitted."""

    job: facts.JobFacts | None


class Admission(Message):
    """A LabelingJob as stored, handed to the labeling service."""

    document: dict[str, Any]


def view_of(changes: facts.Changes) -> ChangesView:
    """Return changes as they go over the wire."""
    return ChangesView(keys=changes.keys, cursor=changes.cursor)
