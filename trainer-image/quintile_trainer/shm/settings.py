"""How much memory the ranks of a host share, and how long they wait for each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quintile_trainer import failures

ALIGNMENT = 4096


@dataclass(frozen=True)
class Settings:
    """Equal on all ranks; the memory in all is world size x ``banks`` x ``piece_bytes``.

    Many ranks get fewer banks, so that it is 128 MiB at most.

    Attributes:
        piece_bytes: Tensors are summed in pieces of this size: small enough for the caches.
        banks: Pieces of a rank that may be under way at once.
        direct_bytes: Up to this size every rank sums the whole by itself, with one wait less; with
            two ranks at any size.
        spin_us: Longest time a rank looks for another before it sleeps; 0 when ranks share cores.
        deadline_s: Longest wait for another rank.
        meeting_s: Longest wait for all ranks to come.
        folder: Where an unnamed file is made; None = memory without any folder (memfd), which no
            size of ``/dev/shm`` limits.
    """

    piece_bytes: int = 1 << 19
    banks: int = 32
    direct_bytes: int = 64 << 10
    spin_us: int = 50
    deadline_s: float = 600.0
    meeting_s: float = 120.0
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.piece_bytes < ALIGNMENT or self.piece_bytes % ALIGNMENT:
            raise failures.BadInput(
                f"piece_bytes is {self.piece_bytes}; expected a positive multiple of {ALIGNMENT}"
            )
        if self.banks < 2:
            raise failures.BadInput(f"banks is {self.banks}; expected 2 or more")
        if not 0 <= self.direct_bytes <= self.piece_bytes:
            raise failures.BadInput(
                f"direct_bytes is {self.direct_bytes}; expected 0 to {self.piece_bytes}"
            )
        if not 0 <= self.spin_us <= 1000:
            raise failures.BadInput(f"spin_us is {self.spin_us}; expected 0 to 1000")
        if self.deadline_s <= 0 or self.meeting_s <= 0:
            raise failures.BadInput("deadline_s and meeting_s must be more than 0")
