"""What a person sees of a slot: the image, why it is asked, and what the machine thinks of it."""

from __future__ import annotations

from collections.abc import Sequence

from quintile.core import conditions, tasks
from quintile_labeling import images, tables
from quintile_labeling.desk import Desk
from quintile_labeling.queue import candidates
from quintile_labeling.rounds import predictions


def tasks_of(desk: Desk, found: Sequence[candidates.Found]) -> list[tasks.Task]:
    """Return leased slots as tasks. Random and blind ones carry no suggestion."""
    open_eyed = [item.ordinal for slot, item in found if not slot.blind]
    thought = predictions.newest_at(desk.session, desk.job, open_eyed) if open_eyed else {}
    return [_task(desk, slot, item, thought.get(item.ordinal)) for slot, item in found]


def _task(
    desk: Desk, slot: tables.Slot, item: tables.Item, thought: predictions.Prediction | None
) -> tasks.Task:
    suggestion = None
    if thought is not None and not slot.blind:
        suggestion = tasks.Suggestion(
            class_id=thought.class_id,
            label=desk.spec.labels[thought.class_id],
            confidence=thought.confidence,
        )
    assert slot.lease is not None
    assert slot.expires_s is not None
    return tasks.Task(
        slot_id=slot.id,
        lease=slot.lease,
        expires=conditions.timestamp(slot.expires_s),
        item_id=item.item_id,
        name=item.name,
        image_url=images.url(desk.job, desk.spec, item.item_id),
        width=item.width,
        height=item.height,
        purpose=slot.purpose,
        round=slot.round,
        why=slot.why,
        suggestion=suggestion,
        base_revision=slot.revision,
    )
