"""The rules of answering, as pure functions over a few rows.

``judge`` says what becomes of one answer to a slot, ``settle`` what the answers of an item come to.
Neither depends on the order in which equal sets of answers arrived.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from quintile.core import errors, tasks

Outcome = Literal["accepted", "extra", "stale"]
Rule = Literal["pending", "adjudicate", "single", "agreed", "adjudicated"]
SETTLED: Final[tuple[Rule, ...]] = ("single", "agreed", "adjudicated")
NO_CLASS: Final = -1
MAIN, SECOND, ADJUDICATION = 0, 1, 2


@dataclass(frozen=True)
class SlotView:
    """A slot as ``judge`` sees it. ``lease`` and ``expires_s`` belong to who holds it now."""

    state: str
    revision: int
    author: str | None
    lease: str | None
    expires_s: float | None


@dataclass(frozen=True)
class Opinion:
    """One live answer of an item. ``is_head``: it counts for its slot; else an extra opinion."""

    annotation_id: str
    ordinal: int
    author: str
    verdict: str
    class_id: int
    is_head: bool


@dataclass(frozen=True)
class Settlement:
    """What the answers of an item come to; see ``tables.Settlement``."""

    rule: Rule
    annotation_id: str = ""
    class_id: int = NO_CLASS
    verdict: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether the item needs no further answer."""
        return self.rule in SETTLED


def judge(slot: SlotView, *, author: str, lease: str, base_revision: int, now_s: float) -> Outcome:
    """Return what becomes of an answer whose lease was once given to ``author`` for this slot.

    A lease that ran out costs nothing while nobody else took the slot. Whoever comes after
    another person's answer, or while another one holds the slot, gives an extra opinion.
    """
    if slot.state == "answered":
        if slot.author != author:
            return "extra"
        return "accepted" if base_revision == slot.revision else "stale"
    taken = slot.state == "leased" and slot.lease != lease
    if taken and slot.expires_s is not None and slot.expires_s > now_s:
        return "extra"
    return "accepted" if base_revision == slot.revision else "stale"


def settle(opinions: Sequence[Opinion], *, wanted: int) -> Settlement | None:
    """Return what the live answers of an item come to; None when there is none.

    Args:
        opinions: Heads and extra opinions, in any order.
        wanted: Answers that the item needs: 1, or 2 when it is answered twice.
    """
    if not opinions:
        return None
    ranked = sorted(opinions, key=lambda one: (not one.is_head, one.ordinal, one.annotation_id))
    for one in ranked:
        if one.ordinal == ADJUDICATION and one.is_head:
            return Settlement("adjudicated", one.annotation_id, one.class_id, one.verdict)
    heads = [one for one in ranked if one.is_head]
    answered = {one.author for one in heads}
    counted = heads + [one for one in ranked if not one.is_head and one.author not in answered]
    if len({(one.verdict, one.class_id) for one in counted}) > 1:
        return Settlement("adjudicate")
    if len({one.author for one in counted}) < wanted:
        return Settlement("pending")
    first = counted[0]
    rule: Rule = "single" if wanted == 1 else "agreed"
    return Settlement(rule, first.annotation_id, first.class_id, first.verdict)


def class_of(payload: tasks.Payload, *, classes: int) -> int:
    """Return the class of an answer to a classification task; -1 for skip, unsure and so on.

    Raises:
        InvalidSpec: The payload does not fit the task.
    """
    if payload.shapes:
        raise errors.InvalidSpec(
            "The answer holds shapes; a classification takes one class and no shapes.",
            field="payload.shapes",
        )
    if payload.verdict != "answer":
        if payload.labels:
            raise errors.InvalidSpec(
                f"The verdict {payload.verdict!r} comes with labels; it takes none.",
                field="payload.labels",
            )
        return NO_CLASS
    if len(payload.labels) != 1:
        raise errors.InvalidSpec(
            f"The answer holds {len(payload.labels)} classes; a classification takes exactly one.",
            hint="Send one class id, or the verdict skip, unsure, unreadable or other.",
            field="payload.labels",
        )
    class_id = payload.labels[0]
    if not 0 <= class_id < classes:
        raise errors.InvalidSpec(
            f"There is no class {class_id}; the job has classes 0 to {classes - 1}.",
            field="payload.labels[0]",
        )
    return class_id
