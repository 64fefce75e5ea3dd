"""REST messages of the labeling service: tasks, answers, rounds, certificates (snake_case)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from quintile.core.labeling_job import Share
from quintile.core.meta import Message, Short, Wire

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
    """Answer of POST tasks/next.

    ``ready``: further tasks that could be served now (counted up to 1,000). ``waiting`` says why
    ``tasks`` is empty, as a CamelCase word: Importing, RoundRunning, OthersWork (all that is left
    is leased), HeldByYou (the same, by other clients of the caller alone), SecondOpinion (what is
    left needs another person), LeaseLimit, BudgetSpent, Suspended, Exporting, Finished.
    """

    tasks: list[Task]
    ready: int
    state: str
    waiting: str = ""


class NextRequest(Message):
    """How many tasks to lease (<= 25).

    ``client`` names the tab or process, stable over its reloads: leases are limited per client.
    ``fresh``: give back whatever this client still holds first (the call after a reload).
    """

    count: int = Field(default=1, ge=1, le=25)
    client: str = Field(default="", max_length=64)
    fresh: bool = False


class LeaseRenewal(Message):
    """Leases to extend, and leases to give back unanswered."""

    leases: list[str] = Field(default_factory=list, max_length=25)
    release: list[str] = Field(default_factory=list, max_length=25)


class LeaseAnswer(Message):
    """Which leases were extended, and until when."""

    extended: list[str]
    expires: str


class Answer(Message):
    """One save: a whole-item revision. Equal ``client_id`` = same answer (idempotent)."""

    client_id: str = Field(min_length=8, max_length=64)
    slot_id: str
    lease: str
    item_id: str
    base_revision: int = Field(ge=0, le=2**31 - 1)
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
    """The certificate of a job, with everything needed to check it again.

    ``uncovered``: items that have no label of people and that the certificate does not cover.
    ``seed`` and ``salt`` open the commitment ``seed_sha256``. ``document`` is the engine's own
    (``certify.Certificate.read``); the fields beside it follow from it and from what people did
    since: with ``stale``, an answer of the random items has changed after the look.
    """

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
    measured_error: float | None
    measured_low: float | None
    measured_high: float | None
    uncovered: int
    stale: bool
    seed_sha256: str
    seed: int
    salt: str
    engine_version: str
    manifest_key: str
    manifest_sha256: str
    scores_key: str
    scores_sha256: str
    created: str
    lines: list[str]
    document: dict[str, Any]


class JobStats(Message):
    """Numbers of a job for people.

    ``human`` items have a decision of a person, ``decisions`` counts every answer that was stored
    (second opinions and corrections too), ``human_fraction`` is human / items. ``spent`` of
    ``budget`` answers are used: those that count now, so that a correction costs nothing.
    ``problem`` says what holds the job up, empty if nothing does.
    """

    items: int
    state: str
    round: int
    random_items: int
    random_settled: int
    human: int
    decisions: int
    spent: int
    budget: int
    auto: int
    uncovered: int
    human_fraction: float
    seconds_p50: float | None
    by_author: dict[str, int]
    by_class: dict[str, int]
    problem: str = ""


class CurvePoint(Message):
    """What people had answered when a round closed, and what the round expected to cover."""

    round: int
    step: str
    human_labels: int
    human_label_fraction: float
    coverage: float | None
    coverage_low: float | None
    coverage_high: float | None


class JobItemView(Message):
    """One item of a job: the label that counts now and where it comes from.

    ``source``: human, auto, auto-uncertified (newest prediction, not certified) or none. The
    prediction of a random item is shown only once the certificate exists.
    """

    item_id: str
    name: str
    label: str | None
    source: str
    confidence: float | None
    random: bool
    round: int
    annotations: int


class WhyStep(Message):
    """One link of the chain behind a label: what happened, who or what did it, when."""

    kind: str
    actor: str
    label: str | None
    detail: str
    time: str


class WhyView(Message):
    """Why an item has its label, oldest link first."""

    item_id: str
    name: str
    label: str | None
    source: str
    steps: list[WhyStep]


class BudgetPatch(Wire):
    """Parts of a job's budget to change (camelCase, as in the spec)."""

    max_human_labels: Share | None = None
    max_rounds: Annotated[int, Field(ge=1, le=100)] | None = None
    max_chosen: Share | None = None


class JobPatch(Message):
    """Body of PATCH labeling-jobs: the only fields of a job that may change.

    ``labels`` is the whole new list; it begins with the old one.
    """

    budget: BudgetPatch | None = None
    labels: list[Short] | None = Field(default=None, max_length=1000)


class RoundOpen(Message):
    """A worker begins a round: which attempt of its trial it is."""

    attempt: int = Field(ge=1)


class RoundAck(Message):
    """The outputs of a round are stored; ``repeated``: they were before."""

    number: int
    repeated: bool


class RoundResult(Message):
    """A worker hands in the outputs of a round; idempotent by (job, number), fenced by attempt.

    Keys lie under ``names.round_prefix``. ``predictions_key``: npz with ``item_ids`` [N] str
    (sorted), ``probabilities`` [N, C] float32, ``predicted`` [N] int64, ``scores`` [N] float64;
    empty for embed. ``features_key``: set by embed. ``order``: ranked item ids to ask next, with
    ``reasons`` (equal length). ``accepted``, ``certificate`` (``Certificate.document()``) and
    ``scores_key`` (npz of ``ScoreTable.arrays()``): set by finalise. ``report``: figures for the
    round view: coverage, coverage_low, coverage_high, labels_left, labels_total, stop, advice,
    seconds; never anything measured on R.
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
    scores_key: str = ""
    scores_sha256: str = ""
    model_sha256: str = ""
    report: dict[str, Any] = Field(default_factory=dict)


class RoundAccess(Message):
    """What the worker of a round may read and write: one signed URL per object.

    ``uploads`` holds key and PUT URL of each output by name (``features``, ``predictions``,
    ``scores``); keys carry the attempt, so that a later attempt never meets bytes of an earlier
    one. ``features_url`` is empty for embed.
    """

    manifest_url: str
    manifest_sha256: str
    features_url: str = ""
    uploads: dict[str, RoundUpload]


class RoundUpload(Message):
    """Where one output of a round goes."""

    key: str
    url: str


class RoundManifest(Message):
    """Input of a round, written to the store when it closes; the only thing a round reads.

    ``labels``: sorted (item id, annotation id, class id or -1 when it was settled without a class:
    skipped, unsure, unreadable, other), with R; ``random``: settled prefix of R in committed order,
    class id or -1. ``exclude``: sorted ids that may never be chosen (all of R, answered or not);
    empty for finalise, where an item of R beyond the prefix is like any other. ``random_size``:
    planned size of R; ``commitment``: hash of its seed; ``history``: ``labels_total`` of earlier
    rounds' reports. ``features_key`` is empty for embed. ``batch``: size of a first batch.
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
    random_size: int = 0
    commitment: str = ""
    history: list[float] = Field(default_factory=list)


RoundAccess.model_rebuild()
