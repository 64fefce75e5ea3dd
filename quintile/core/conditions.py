"""Conditions as a list map keyed by type: set one, read one, compare. Pure.

Called by ``core.reconcile`` and ``core.cycle``. A condition keeps its transition time while its
status stays the same, so that an unchanged observation gives an unchanged document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from quintile.core import meta

Status = Literal["True", "False", "Unknown"]
MESSAGE_LIMIT = 1024
REASON_LIMIT = 256


def timestamp(now_s: float) -> str:
    """Return seconds since the epoch as RFC 3339 text in UTC, whole seconds."""
    return datetime.fromtimestamp(int(now_s), tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: str) -> float:
    """Return the seconds since the epoch of a ``timestamp``; 0.0 for empty text."""
    if not text:
        return 0.0
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def clip(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Return ``text`` cut to ``limit`` characters, the cut marked with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def condition(
    kind: str, status: Status, *, reason: str = "", message: str = "", generation: int = 0
) -> meta.Condition:
    """Return a condition without a transition time; ``merge`` fills it in."""
    return meta.Condition(
        type=kind,
        status=status,
        reason=clip(reason, REASON_LIMIT),
        message=clip(message),
        observed_generation=generation,
    )


def merge(
    before: Sequence[meta.Condition], changes: Iterable[meta.Condition], *, now_s: float
) -> list[meta.Condition]:
    """Return ``before`` with ``changes`` set by type; order of first appearance is kept.

    The transition time moves only when the status of a condition changes.
    """
    merged: dict[str, meta.Condition] = {entry.type: entry for entry in before}
    for change in changes:
        known = merged.get(change.type)
        same = known is not None and known.status == change.status
        time = known.last_transition_time if known is not None and same else timestamp(now_s)
        merged[change.type] = change.model_copy(update={"last_transition_time": time})
    return list(merged.values())


def find(entries: Iterable[meta.Condition], kind: str) -> meta.Condition | None:
    """Return the condition of a type, or None."""
    return next((entry for entry in entries if entry.type == kind), None)


def is_true(entries: Iterable[meta.Condition], kind: str) -> bool:
    """Return whether the condition of a type is there and ``True``."""
    found = find(entries, kind)
    return found is not None and found.status == "True"


def phase(
    entries: Sequence[meta.Condition], ranking: Mapping[str, str], *, default: str
) -> tuple[str, meta.Condition | None]:
    """Derive a phase for people: the first condition type of ``ranking`` that is True wins.

    Args:
        entries: The conditions.
        ranking: Phase by condition type, most decisive first.
        default: The phase while none of them is True.

    Returns:
        The phase and the condition that gave it (None for the default).
    """
    for kind, name in ranking.items():
        found = find(entries, kind)
        if found is not None and found.status == "True":
            return name, found
    return default, None
