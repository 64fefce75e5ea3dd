"""REST messages of the labeling service: tasks, answers, rounds, certificates (snake_case)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from quintile.core.meta import Message

Purpose = Literal["random", "chosen", "overlap", "uncovered", "adjudicate"]


class Shape(Message):
    """A drawn object; unused by classification, kept so that payloads need no new schema."""

    id: str
    kind: Literal["box", "polygon", "mask"]
    class_id: int
    geometry: list[float] = Field(default_factory=list)
    attributes: dict[str, str] = Field(default_factory=dict)
    source: str = ""


class Payload(Message):
    """One answer for one item, the same envelope for every task.

    ``labels`` holds class ids; an empty list is an answer ("nothing here"). ``verdict``:
    ``answer``, or ``skip`` / ``unsure`` / ``unreadable`` / ``other`` (none of the classes).
    """

    labels: list[int] = Field(default_factory=list, max_length=64)
    shapes: list[Shape] = Field(default_factory=list, max_length=10_000)
    verdict: Literal["answer", "skip", "unsure", "unreadable", "other"] = "answer"


class Suggestion(Message):
    """What the machine thinks; absent on random and blind tasks."""

    class_id: int
    label: str
    confidence: float


class Task(Message):
    """One leased slot: what to show and what to send back."""

    slot_id: str
    lease: str
    expires: str
    item_id: str
    name: str
    image_url: str
    width: int
    height: int
    purpose: Purpose
    round: int
    why: str
    suggestion: Suggestion | None = None
    base_revision: int


class TaskBatch(Message):
    """Answer of POST tasks/next. Empty tasks plus ``waiting`` says why."""

    tasks: list[Task]
    ready: int
    state: str
    waiting: str = ""


class NextRequest(Message):
    """How many tasks to lease (<= 25)."""

    count: int = Field(default=1, ge=1, le=25)


class LeaseRenewal(Message):
    """Leases to extend; the answer lists those that were extended."""

    leases: list[str] = Field(max_length=25)


class Answer(Message):
    """One save: a whole-item revision. Equal ``client_id`` = same answer (idempotent)."""

    client_id: str = Field(min_length=8, max_length=64)
    slot_id: str
    lease: str
    item_id: str
    base_revision: int
    payload: Payload
    seconds: float = 0.0
    via: Literal["keyboard", "mouse", "grid", "api", "simulate"] = "api"


class AnswerBatch(Message):
    """Up to 200 answers; each is acknowledged on its own."""

    answers: list[Answer] = Field(min_length=1, max_length=200)


class AnswerResult(Message):
    """What became of one answer.

    ``accepted``: settled or counted; ``repeated``: this client_id was stored before;
    ``extra``: the lease had expired and the slot was taken, kept as an extra opinion;
    ``stale``: another revision came between, both are kept; ``refused``: invalid, see problem.
    """

    client_id: str
    outcome: Literal["accepted", "repeated", "extra", "stale", "refused"]
    revision: int = 0
    problem: str = ""


class AnswerResults(Message):
    """One result per answer, in order."""

    results: list[AnswerResult]


class UndoRequest(Message):
    """Undo the newest revision of an item by its author; a new event, nothing is erased."""

    client_id: str = Field(min_length=8, max_length=64)
    item_id: str


class RoundView(Message):
    """One round: what went in, how good it looked (never from R), what it cost."""

    number: int
    step: str
    state: str
    human: int
    random_settled: int
    coverage: float | None
    forecast_low: float | None
    forecast_high: float | None
    experiment: str
    seconds: float | None


class CertificateView(Message):
    """The certificate of a job, with everything needed to check it again."""

    id: str
    outcome: str
    mode: str
    words: str
    guarantee: str
    target_error: float
    confidence: float
    certified_error: float
    items: int
    accepted: int
    random_items: int
    random_wrong: int
    upper_wrong: int
    seed_sha256: str
    engine_version: str
    scores_key: str
    scores_sha256: str
    created: str
    lines: list[str]


class JobStats(Message):
    """Numbers of a job for people."""

    items: int
    human: int
    decisions: int
    auto: int
    uncovered: int
    human_fraction: float
    seconds_p50: float | None
    by_author: dict[str, int]
    by_class: dict[str, int]


class RoundResult(Message):
    """A worker hands in the outputs of a round; idempotent by (job, number), fenced by attempt.

    Keys lie under ``names.round_prefix``. ``predictions_key``: npz with ``item_ids`` [N] str,
    ``probabilities`` [N, C] float32, ``scores`` [N] float64. ``order``: ranked item ids to ask
    next, with reasons. ``report``: free-form figures for the round view.
    """

    attempt: int
    number: int
    step: Literal["embed", "learn", "finalise"]
    predictions_key: str = ""
    predictions_sha256: str = ""
    features_key: str = ""
    features_sha256: str = ""
    order: list[str] = Field(default_factory=list, max_length=1_000_000)
    reasons: list[str] = Field(default_factory=list, max_length=1_000_000)
    accepted: list[str] = Field(default_factory=list, max_length=10_000_000)
    certificate: dict[str, Any] = Field(default_factory=dict)
    report: dict[str, Any] = Field(default_factory=dict)


class RoundManifest(Message):
    """Input of a round, written to the store when it closes; the only thing a round reads.

    ``labels``: sorted (item id, annotation id, class id); ``random``: committed prefix of R in
    order, with class id or -1 for a machine error (skipped, unsure, unreadable).
    """

    job_uid: str
    number: int
    step: Literal["embed", "learn", "finalise"]
    dataset: str
    version: int
    pool_sha256: str
    features_key: str
    features_sha256: str
    labels: list[tuple[str, str, int]]
    random: list[tuple[str, int]]
    exclude: list[str]
    classes: list[str]
    schema_version: int
    engine_version: str
    seed: int
    batch: int
    strategy: str
    target: dict[str, str]
