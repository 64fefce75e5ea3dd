"""What agents and people did, as the reconciler reads it (port ``Facts``).

Frozen snapshots; made by the API (trials) and by the labeling service (jobs) from their own
tables. The reconciler never writes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from quintile.core.meta import Key

RoundStep = Literal["embed", "learn", "finalise"]
RoundState = Literal["collecting", "closed", "ingested"]


@dataclass(frozen=True)
class RankFact:
    """Last known state of one rank of the current generation; ``role`` as in the plan.

    ``action`` is what a failure rule of the experiment says about its end.
    """

    rank: int
    state: str
    exit_code: int | None
    reason: str
    first_error: str
    step: int
    role: str = "worker"
    action: str = ""


@dataclass(frozen=True)
class CheckpointFact:
    """The newest committed checkpoint; ``has_place``: it knows which sample comes next."""

    key: str
    step: int
    time_s: float
    has_place: bool = False


@dataclass(frozen=True)
class TrialFacts:
    """What the API knows of one trial.

    ``state`` is the state of the newest generation; ``forming`` when no agent spoke yet.
    ``commands`` are REST commands that the reconciler obeys: ``stop``, ``resume``.
    ``joined`` are role and index of the agents that are ready for the newest generation.
    ``workers`` is how many the newest generation has (0 while it forms), ``why`` why it is not the
    one before.
    """

    uid: str
    attempt: int = 0
    generation: int = 0
    state: str = "forming"
    in_place_restarts: int = 0
    ranks: tuple[RankFact, ...] = ()
    joined: tuple[tuple[str, int], ...] = ()
    step: int = -1
    total_steps: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    checkpoint: CheckpointFact | None = None
    failure: RankFact | None = None
    stop_requested: bool = False
    workers: int = 0
    why: str = ""
    started_s: float = 0.0
    updated_s: float = 0.0


@dataclass(frozen=True)
class RoundFact:
    """One round of a labeling job; ``closed`` means: its input manifest lies in the store."""

    number: int
    step: RoundStep
    state: RoundState
    manifest_key: str = ""
    manifest_sha256: str = ""


@dataclass(frozen=True)
class JobFacts:
    """What the labeling service knows of one job."""

    uid: str
    state: Literal["importing", "labeling", "finalising", "covering", "exporting", "exported"]
    items: int = 0
    human: int = 0
    auto: int = 0
    decisions: int = 0
    rounds: tuple[RoundFact, ...] = ()
    random_commitment: str = ""
    coverage: float | None = None
    certified_error: float | None = None
    outcome: str = ""
    labels_left: int | None = None
    output_version: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class Changes:
    """Keys that changed after a cursor; ``cursor`` is opaque and goes back into ``changed``."""

    keys: tuple[Key, ...]
    cursor: str
