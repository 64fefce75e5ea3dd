"""The Experiment resource: what to train, on which data, how wide. And its Trial.

Users write Experiments (kubectl, REST, SDK, CLI); the reconciler makes one Trial per set of
hyperparameters. Field meanings: research of the design, ``docs/reference``; rules across fields
are the validators here and, for the API server, CEL declared beside them in ``core.crd``.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from quintile.core import patterns
from quintile.core.meta import (
    API_VERSION,
    Condition,
    Decimal,
    Name,
    ObjectMeta,
    Short,
    Text,
    Wire,
)

Sha256 = Annotated[str, StringConstraints(pattern=patterns.SHA256)]
Mode = Literal["auto", "single", "ddp", "horovod", "mpi", "ps"]
Comm = Literal["auto", "gloo", "shm"]
Consistency = Literal["sync", "ssp", "async"]
TrialPhase = Literal[
    "Pending", "Running", "Restarting", "Suspended", "Succeeded", "Failed", "Stopped"
]
FailureAction = Literal["Restart", "RestartUncounted", "Fail"]
SampleAccounting = Literal["exact", "unmanaged"]
"""Whether it is known which samples a trial learnt; scripts that read by themselves keep it."""

TERMINAL: frozenset[str] = frozenset({"Succeeded", "Failed", "Stopped"})
RESERVED_ENV = ("QUINTILE_", "HOROVOD_", "PET_", "OMPI_", "TF_CONFIG")


class Parameter(Wire):
    """One hyperparameter; the value is text and the program gives it a type."""

    name: Short
    value: Annotated[str, StringConstraints(max_length=4096)]


class EnvVar(Wire):
    """One environment variable for the ranks."""

    name: Annotated[str, StringConstraints(pattern=patterns.VARIABLE)]
    value: Text


class DatasetRef(Wire):
    """Which dataset version to read, and which parts of which split.

    ``sources`` and ``minConfidence`` narrow the training labels by provenance; empty = all.
    """

    name: Name
    version: Annotated[int, Field(ge=1)]
    split: Name | None = None
    train: Short = "train"
    evaluate: Short = "test"
    sources: list[Short] = Field(default_factory=list, max_length=16)
    min_confidence: Decimal | None = None


class Builtin(Wire):
    """A model of ours for a task of ours; hyperparameters tune it."""

    task: Literal["classification"] = "classification"
    model: Literal["resnet8", "resnet18", "resnet34", "resnet50"] = "resnet8"


class Functions(Wire):
    """User functions in a code bundle: a cloudpickle made by the SDK, opened only by the ranks."""

    bundle: Sha256
    task: Literal["classification"] = "classification"


class Script(Wire):
    """A script in a code bundle, run as ``__main__``."""

    bundle: Sha256
    entry: Text
    args: list[Text] = Field(default_factory=list, max_length=256)


class LabelingRound(Wire):
    """The compute of one labeling round; program ``quintile_trainer.rounds``.

    ``step``: ``embed`` makes features and the cold-start order, ``learn`` trains, scores and
    selects, ``finalise`` drafts the certificate.
    """

    job: Name
    job_uid: Short
    number: Annotated[int, Field(ge=0)]
    step: Literal["embed", "learn", "finalise"]
    manifest_key: Text
    manifest_sha256: Sha256


class EstimatorSpec(Wire):
    """What runs: exactly one of the blocks."""

    builtin: Builtin | None = None
    functions: Functions | None = None
    script: Script | None = None
    labeling_round: LabelingRound | None = None
    env: list[EnvVar] = Field(default_factory=list, max_length=128)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        blocks = [
            name
            for name in ("builtin", "functions", "script", "labeling_round")
            if getattr(self, name) is not None
        ]
        if len(blocks) != 1:
            raise ValueError(
                "exactly one of builtin, functions, script, labelingRound is expected, "
                f"got {len(blocks)}"
            )
        for variable in self.env:
            if variable.name.startswith(RESERVED_ENV):
                raise ValueError(f"env name {variable.name!r} is reserved; choose another name")
        return self


class Workers(Wire):
    """How many worker processes; ``min``/``max`` only for elastic runs."""

    replicas: Annotated[int, Field(ge=1, le=1024)] = 1
    min: Annotated[int, Field(ge=1, le=1024)] | None = None
    max: Annotated[int, Field(ge=1, le=1024)] | None = None


class ParameterServers(Wire):
    """How many parameter servers (mode ``ps``), and how they order the pushes of the workers.

    ``sync``: one update per step, from the sum over all workers. ``ssp``: every push is an update
    of its own, and no worker is more than ``staleness`` pushes ahead of the slowest one (4 when it
    is left out). ``async``: the same without a bound.
    """

    replicas: Annotated[int, Field(ge=0, le=256)] = 0
    consistency: Consistency = "sync"
    staleness: Annotated[int, Field(ge=0, le=1000)] | None = None

    @model_validator(mode="after")
    def _staleness_is_for_ssp(self) -> Self:
        if self.staleness is not None and self.consistency != "ssp":
            raise ValueError(
                f"ps.staleness is {self.staleness} but ps.consistency is {self.consistency}, "
                "not ssp"
            )
        if self.replicas == 0 and self.consistency != "sync":
            raise ValueError(
                f"ps.consistency is {self.consistency} but ps.replicas is 0; set it to 1 or more"
            )
        return self


class HorovodSpec(Wire):
    """How Horovod's ranks find each other and exchange (mode ``horovod``).

    ``gloo``: over TCP, with nothing else installed. ``mpi``: under Open MPI, which the image needs.
    """

    controller: Literal["gloo", "mpi"] = "gloo"


class Resources(Wire):
    """What one worker may use: quantities as in Kubernetes (``500m``, ``2Gi``)."""

    cpu: Short | None = None
    memory: Short | None = None
    gpu: Annotated[int, Field(ge=0, le=16)] = 0


class RunSpec(Wire):
    """How the run is spread over processes.

    ``comm``: how gradients of built-in models and functions travel in mode ``ddp``: ``gloo`` is
    TCP, ``shm`` is memory that all ranks share on one host, ``auto`` is shm wherever that works.
    """

    mode: Mode = "auto"
    comm: Comm = "auto"
    workers: Workers = Workers()
    ps: ParameterServers = ParameterServers()
    horovod: HorovodSpec = HorovodSpec()
    use_gpu: bool = False
    resources: Resources = Resources()
    run_eval: bool = True
    deterministic: bool = False

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if self.mode == "ps" and self.ps.replicas == 0:
            raise ValueError("mode ps needs ps.replicas >= 1, got 0")
        if self.mode not in ("ps", "auto") and self.ps.replicas > 0:
            raise ValueError(f"ps.replicas is {self.ps.replicas} but mode is {self.mode}, not ps")
        if self.mode != "horovod" and self.horovod.controller != "gloo":
            raise ValueError(
                f"horovod.controller is {self.horovod.controller} but mode is {self.mode}, "
                "not horovod"
            )
        if self.comm != "auto" and self.mode not in ("auto", "ddp"):
            raise ValueError(f"comm is {self.comm} but mode is {self.mode}, not ddp")
        if self.mode == "single" and self.workers.replicas != 1:
            raise ValueError(
                f"mode single runs one worker, got workers.replicas {self.workers.replicas}"
            )
        low, high = self.workers.min, self.workers.max
        if low is not None and low > self.workers.replicas:
            raise ValueError(f"workers.min {low} is above replicas {self.workers.replicas}")
        if high is not None and high < self.workers.replicas:
            raise ValueError(f"workers.max {high} is below replicas {self.workers.replicas}")
        return self


class CheckpointSpec(Wire):
    """When state is saved and where a restart begins."""

    every_steps: Annotated[int, Field(ge=1)] = 500
    keep_last: Annotated[int, Field(ge=1, le=100)] = 2
    keep_best: Annotated[int, Field(ge=0, le=100)] = 1
    resume: Literal["Auto", "Never"] = "Auto"
    grace_seconds: Annotated[int, Field(ge=1, le=3600)] = 60


class TelemetrySpec(Wire):
    """What the ranks report, and when silence counts as a stall (0 = never)."""

    summary_every_steps: Annotated[int, Field(ge=1)] = 100
    progress_timeout_seconds: Annotated[int, Field(ge=0)] = 600


class FailureRule(Wire):
    """What follows when a rank ends like this; the first rule that fits decides.

    ``exitCodes``: one of these (128 + the number of a signal). ``logPattern``: one of the last 200
    lines on stderr contains this text, in which ``*`` stands for any text. Both given: both hold.
    ``RestartUncounted`` restarts without counting against a limit, ``Fail`` ends the trial.
    """

    action: FailureAction
    exit_codes: list[Annotated[int, Field(ge=1, le=255)]] = Field(
        default_factory=list, max_length=64
    )
    log_pattern: Annotated[str, StringConstraints(max_length=256)] = ""

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if not self.exit_codes and not self.log_pattern.strip("* "):
            raise ValueError(
                "a failure rule needs exitCodes, or a logPattern with more in it than *"
            )
        return self


class FailureSpec(Wire):
    """How often a trial may restart before it fails, and which ends are told apart."""

    max_restarts: Annotated[int, Field(ge=0, le=100)] = 3
    max_in_place_restarts: Annotated[int, Field(ge=0, le=1000)] = 10
    rules: list[FailureRule] = Field(default_factory=list, max_length=32)


class ExperimentSpec(Wire):
    """What the user asked for; immutable but for ``suspend``.

    ``queue`` and ``runtime`` name what administrators made (kinds Queue and ClusterRuntime; left
    out: the ones of the installation), ``priority`` is a word of that queue.
    """

    description: Text = ""
    dataset: DatasetRef | None = None
    estimator: EstimatorSpec
    hparams: list[Parameter] = Field(default_factory=list, max_length=100)
    run: RunSpec = RunSpec()
    checkpoint: CheckpointSpec = CheckpointSpec()
    telemetry: TelemetrySpec = TelemetrySpec()
    failure: FailureSpec = FailureSpec()
    queue: Name | None = None
    priority: Name | None = None
    runtime: Name | None = None
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    suspend: bool = False
    managed_by: Short = "quintile.dev/default"

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [parameter.name for parameter in self.hparams]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"hparams holds {', '.join(doubled)} more than once")
        return self


class Progress(Wire):
    """How far a run is; metrics as decimal text."""

    percent: Annotated[int, Field(ge=0, le=100)] = 0
    step: int = 0
    total_steps: int = 0
    eta_seconds: int | None = None
    metrics: list[Parameter] = Field(default_factory=list, max_length=16)
    updated_time: str = ""


class LastFailure(Wire):
    """The failure that caused the newest restart or the end."""

    role: Short = ""
    rank: int = -1
    exit_code: int | None = None
    reason: Short = ""
    message: Text = ""
    time: str = ""


class CheckpointRef(Wire):
    """A committed checkpoint: object key of its manifest, and its step."""

    key: Text
    step: int
    time: str = ""


class ExperimentStatus(Wire):
    """What the reconciler observed; ``phase`` is derived from the conditions, for people."""

    observed_generation: int = 0
    phase: TrialPhase = "Pending"
    reason: Short = ""
    message: Text = ""
    conditions: list[Condition] = Field(default_factory=list, max_length=16)
    trials: list[Short] = Field(default_factory=list, max_length=1000)
    mode: Mode | None = None
    progress: Progress = Progress()
    restarts: int = 0
    start_time: str = ""
    completion_time: str = ""


class Experiment(Wire):
    """One training request of a user."""

    api_version: Literal["quintile.dev/v1alpha1"] = API_VERSION
    kind: Literal["Experiment"] = "Experiment"
    metadata: ObjectMeta
    spec: ExperimentSpec
    status: ExperimentStatus | None = None


class TrialSpec(Wire):
    """One set of hyperparameters of an Experiment, complete, so that a plan needs nothing else."""

    experiment: Name
    experiment_uid: Short
    number: Annotated[int, Field(ge=0)] = 0
    hparams: list[Parameter] = Field(default_factory=list, max_length=100)
    template: ExperimentSpec


class TrialStatus(Wire):
    """Observed state of a trial: attempts, generations, restarts, progress, checkpoint."""

    observed_generation: int = 0
    phase: TrialPhase = "Pending"
    reason: Short = ""
    message: Text = ""
    conditions: list[Condition] = Field(default_factory=list, max_length=16)
    attempt: int = 0
    generation: int = 0
    mode: Mode | None = None
    restarts: int = 0
    in_place_restarts: int = 0
    progress: Progress = Progress()
    last_failure: LastFailure | None = None
    checkpoint: CheckpointRef | None = None
    sample_accounting: SampleAccounting | None = None
    start_time: str = ""
    completion_time: str = ""


class Trial(Wire):
    """One run of one set of hyperparameters (a "job" in the SDK); owned by its Experiment."""

    api_version: Literal["quintile.dev/v1alpha1"] = API_VERSION
    kind: Literal["Trial"] = "Trial"
    metadata: ObjectMeta
    spec: TrialSpec
    status: TrialStatus | None = None
