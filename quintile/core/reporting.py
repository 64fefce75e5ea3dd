"""Condition Reporting: False while nobody can read what agents and people did. Pure.

Runs and people go on meanwhile: agents keep what they have to say. Set when the API or the labeling
service has been away for a while (``quintile_operator.reconciler``), and True again by the next
decision that read the facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from quintile.core import conditions, errors, failure_hints, meta

KIND: Final = "Reporting"
REASON: Final = "PlatformAway"


def away(error: errors.Unavailable) -> meta.Condition:
    """Return the condition of what cannot be heard of."""
    return conditions.condition(KIND, "False", reason=REASON, message=failure_hints.stated(error))


def back(before: Sequence[meta.Condition]) -> list[meta.Condition]:
    """Return what changes now that the facts were read: nothing, unless they were away."""
    if problem(before) is None:
        return []
    return [conditions.condition(KIND, "True", reason="Answered")]


def problem(entries: Sequence[meta.Condition]) -> meta.Condition | None:
    """Return the condition while the facts cannot be read; else None."""
    found = conditions.find(entries, KIND)
    return found if found is not None and found.status == "False" else None
