"""What a pure decision looks like: a status to write, then actions to carry out.

Made by ``core.reconcile`` (Experiment, Trial) and ``core.cycle`` (LabelingJob); carried out by the
reconciler, always status first: whoever starts an attempt has already written its number down.
Every action is idempotent, so a crash between any two of them is harmless.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from quintile.core import meta, runplan

AT_ONCE = 0.0
SOON_S = 2.0
PROGRESS_S = 10.0

StatusT = TypeVar("StatusT", bound=meta.Wire)


@dataclass(frozen=True)
class ApplyChild:
    """Make an owned resource exist with this spec."""

    document: meta.Document


@dataclass(frozen=True)
class EnsureAttempt:
    """Make every replica of this attempt exist."""

    attempt: int


@dataclass(frozen=True)
class DeleteReplicas:
    """End and forget the replicas of one attempt, or of all when None; grace in seconds."""

    attempt: int | None
    grace_s: float


Action = ApplyChild | EnsureAttempt | DeleteReplicas


@dataclass(frozen=True)
class Decision(Generic[StatusT]):
    """The outcome of looking at one resource.

    ``wake_s``: look again after so many seconds even if nothing is reported; None = no need.
    ``within_s``: how long after the one before it the write of ``status`` may come; writes that
    may wait become one. 0 for what people and programs wait for.
    """

    status: StatusT
    actions: tuple[Action, ...] = ()
    events: tuple[runplan.Event, ...] = ()
    wake_s: float | None = None
    within_s: float = AT_ONCE

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for the status."""
        return self.within_s == AT_ONCE
