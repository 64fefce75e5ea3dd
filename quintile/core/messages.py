"""Messages between an agent and the coordinator. Every one carries attempt, generation, boot, seq.

The agent speaks this JSON with the standard library alone; a contract test holds its JSON against
these models. ``boot_id`` is new for every agent process; ``seq`` rises by one per message of a
boot; ``generation`` is the agent's newest known one (0 before the first plan). A message of another
generation is answered 409 with the current plan, of an older attempt 409 ``fenced`` for good.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from quintile.core.experiment import FailureAction
from quintile.core.meta import Message

GenerationState = Literal["forming", "running", "draining", "succeeded", "failed", "stopped"]
Directive = Literal["continue", "regenerate", "stop", "suspend", "fenced", "stacks", "drain"]
"""``drain``: the ranks save their state and leave; a generation of another size follows.
``stacks``: no step is finished any more; write what every rank does into its log, and say it."""
RankState = Literal["starting", "running", "exited", "stalled", "stopped"]
Witness = Literal["", "stack", "silent", "stopped"]
"""What a rank answered that was asked for its stack; ``stopped``: its process is in state T."""


class Envelope(Message):
    """Fencing fields of every agent message."""

    attempt: Annotated[int, Field(ge=1)]
    generation: Annotated[int, Field(ge=0)]
    boot_id: str = Field(min_length=8, max_length=64)
    seq: Annotated[int, Field(ge=0)]
    role: str = Field(max_length=32)
    index: Annotated[int, Field(ge=0)]


class Join(Envelope):
    """An agent is ready for a generation.

    ``members`` is the planned number of replicas by role, ``procs`` the ranks that this replica
    starts, ``port`` a free port on its host for the rendezvous of the next generation,
    ``max_restarts`` how many generations may follow the first before the attempt fails,
    ``progress_timeout_s`` how long a rank may take for a step and ``start_timeout_s`` how
    long it may be ``starting`` without a sign (0 = for ever). ``least`` is the
    number of workers that is enough for an elastic run; 0 = all members are needed.
    """

    members: dict[str, int]
    max_restarts: Annotated[int, Field(ge=0)] = 10
    progress_timeout_s: Annotated[float, Field(ge=0)] = 0.0
    start_timeout_s: Annotated[float, Field(ge=0)] = 0.0
    least: Annotated[int, Field(ge=0)] = 0
    procs: Annotated[int, Field(ge=1)] = 1
    host: str
    interface: str = ""
    port: Annotated[int, Field(ge=0, le=65535)] = 0


class RankSlot(Message):
    """Where one rank runs."""

    rank: int
    role: str
    index: int
    local_rank: int


class ResumePoint(Message):
    """The newest complete checkpoint: manifest key and a URL to read it, step, files by name."""

    key: str
    step: int
    manifest_url: str
    urls: dict[str, str]


class AgentPlace(Message):
    """Where other agents reach one: its host, and the port that it keeps for this generation."""

    role: str
    index: int
    host: str
    port: int


class GenerationPlan(Message):
    """What one generation looks like; equal for all its members.

    ``elapsed_s``: how long the run has gone on before; when it was asked to lie still is left out.
    """

    attempt: int
    generation: int
    world_size: int
    ranks: list[RankSlot]
    master_host: str
    master_port: int
    resume: ResumePoint | None = None
    elapsed_s: float = 0.0
    checkpoint_prefix: str
    agents: list[AgentPlace] = Field(default_factory=list)


class JoinAnswer(Message):
    """State of the attempt and, once ``running``, the plan. ``forming``: ask again (long poll)."""

    state: GenerationState
    generation: int
    directive: Directive = "continue"
    plan: GenerationPlan | None = None


class RankReport(Message):
    """One rank as its agent sees it.

    ``still_s`` is for how long it has told no progress. After ``stacks``: ``witness``, ``where``
    its main thread is, and whether it ``waits`` for other ranks there.
    """

    rank: int
    pid: int
    state: RankState
    step: int = -1
    total_steps: int = 0
    still_s: Annotated[float, Field(ge=0)] = 0.0
    witness: Witness = ""
    where: str = Field(default="", max_length=256)
    waits: bool = False


class Heartbeat(Envelope):
    """The agent lives; every 2 s. ``leaving``: it was asked to go and will be no member again."""

    leaving: bool = False
    ranks: list[RankReport] = Field(default_factory=list, max_length=256)


class HeartbeatAnswer(Message):
    """What the agent shall do now."""

    directive: Directive
    state: GenerationState
    generation: int


class RankExit(Envelope):
    """A rank ended. ``reason`` is the CamelCase word (``UserError``, ``OutOfMemory``, ...).

    ``action`` is what a failure rule of the experiment says about such an end, empty without one.
    ``leaving`` as in a heartbeat; ``step`` and ``total_steps`` are what the rank told last.
    """

    leaving: bool = False
    rank: int
    exit_code: int
    signal: int = 0
    step: int = -1
    total_steps: int = 0
    reason: str = Field(default="", max_length=64)
    first_error: str = Field(default="", max_length=1024)
    action: FailureAction | Literal[""] = ""


class MetricPoint(Message):
    """One metric line: decimal values by name at a step; ``seq`` rises per (rank, stream)."""

    seq: int
    step: int
    time: float
    values: dict[str, float]


class LogLine(Message):
    """One line of output of a rank."""

    seq: int
    time: float
    line: str = Field(max_length=16384)
    stream: Literal["stdout", "stderr", "agent"] = "stdout"


class MetricBatch(Envelope):
    """Metric points of one rank, in order of seq."""

    rank: int
    points: list[MetricPoint] = Field(max_length=5000)


class LogBatch(Envelope):
    """Log lines of one rank, in order of seq."""

    rank: int
    lines: list[LogLine] = Field(max_length=5000)


class Ack(Message):
    """Highest contiguous seq that is stored; the agent may forget up to here."""

    seq: int


class FileInfo(Message):
    """One file of a checkpoint or artifact."""

    path: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    size: Annotated[int, Field(ge=0)]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class UrlRequest(Envelope):
    """The agent asks for URLs to write the files of one checkpoint (ttl >= 1 h)."""

    step: int
    files: list[str] = Field(max_length=64)


class UrlAnswer(Message):
    """Key prefix and one PUT URL per file name."""

    prefix: str
    urls: dict[str, str]


class CheckpointManifest(Message):
    """Contents of ``manifest.json``, written last; committing it is one fenced transaction."""

    format: Literal[1] = 1
    trial_uid: str
    attempt: int
    generation: int
    step: int
    epoch: int
    cursor: int
    world_size: int
    dataset_digest: str
    code_sha256: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)
    files: list[FileInfo]


class CheckpointCommit(Envelope):
    """Commit the checkpoint whose files and manifest lie in the store under ``prefix``."""

    prefix: str
    manifest: CheckpointManifest


class DatasetAccess(Message):
    """What a trial reads: URLs of manifest, labels and shards, presigned, and the digests.

    ``split_url`` is empty when the experiment names no split.
    """

    name: str
    version: int
    digest: str
    items: int
    classes: list[str]
    manifest_url: str
    manifest_sha256: str
    labels_url: str
    labels_sha256: str
    split_url: str
    shards: list[ShardAccess]


class ShardAccess(Message):
    """One tar shard."""

    index: int
    size: int
    sha256: str
    url: str


DatasetAccess.model_rebuild()
