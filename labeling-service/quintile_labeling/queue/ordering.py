"""The order of the queue, pure: tiers by purpose, draws by hash, names of slots.

Smaller tiers go first, within a tier smaller positions. In lockstep (``lookahead: 0``) R goes
first, so that a round's labels never depend on who was how fast. Otherwise R is mixed evenly into
the batches; what is left of it, and then the reserve, fill the time in which a round is computed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

from quintile.core import tasks

Kind = Literal["random", "batch", "reserve", "uncovered"]
ADJUDICATE: Final = 0
BLIND_SHARE: Final = 0.125
"""Share of chosen items that are shown without a suggestion; at least a tenth is promised."""

RESERVE: Final = 30
_LOCKSTEP: Final[dict[Kind, int]] = {
    "random": 10,
    "batch": 20,
    "reserve": RESERVE,
    "uncovered": 40,
}
_AHEAD: Final[dict[Kind, int]] = {**_LOCKSTEP, "batch": 10}


@dataclass(frozen=True)
class Place:
    """Where a slot stands in the queue, and what it shows."""

    purpose: tasks.Purpose
    tier: int
    blind: bool


def place(kind: Kind, *, lookahead: int, ordinal: int, blind: bool = False) -> Place:
    """Return the place of the first (``ordinal`` 0) or second answer of an item.

    R and second answers are always blind; ``blind`` adds chosen items.
    """
    tier = (_AHEAD if lookahead else _LOCKSTEP)[kind]
    if ordinal:
        return Place("overlap", tier, blind=True)
    purposes: dict[Kind, tasks.Purpose] = {
        "random": "random",
        "batch": "chosen",
        "reserve": "chosen",
        "uncovered": "uncovered",
    }
    return Place(purposes[kind], tier, blind=blind or kind == "random")


@dataclass(frozen=True)
class Mix:
    """How a batch is spread among the items of R that are still open.

    ``start``: rank of the first of them; ``share``: items of R for each item of the batch.
    """

    start: int = 0
    share: float = 0.0

    def position(self, index: int) -> int:
        """Return the position of the ``index``-th item of the batch."""
        if not self.share:
            return index
        return self.start + int((index + 1) * self.share)


def fraction(seed: int, item_id: str, *, use: str) -> float:
    """Return a number in [0, 1) that is fixed for this seed, item and use."""
    digest = hashlib.sha256(f"{use}\0{seed}\0{item_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_doubled(seed: int, item_id: str, *, share: float) -> bool:
    """Return whether an item is answered twice."""
    return share > 0 and fraction(seed, item_id, use="overlap") < share


def is_blind(seed: int, item_id: str) -> bool:
    """Return whether a chosen item is shown without a suggestion."""
    return fraction(seed, item_id, use="blind") < BLIND_SHARE


def slot_id(job_uid: str, item_id: str, ordinal: int) -> str:
    """Return the id of a slot; equal in every replay of the job."""
    return hashlib.sha256(f"slot\0{job_uid}\0{item_id}\0{ordinal}".encode()).hexdigest()[:24]


def annotation_id(job_uid: str, client_id: str) -> str:
    """Return the id of the annotation that a client's message makes; equal in every replay."""
    return hashlib.sha256(f"answer\0{job_uid}\0{client_id}".encode()).hexdigest()[:24]
