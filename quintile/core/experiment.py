"""The Experiment resource: what to train, on which data, how wide. And its Trial.

Users write Experiments (kubectl, REST, SDK, CLI); the reconciler makes one Trial per set of
hyperparameters. Field meanings: research of the design, ``docs/reference``; rules across fields
are the validators here and, for the API server, CEL declared beside them in ``core.crd``.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from quintile.core import patterns, pod_spec
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
from quintile.core.run_spec import Comm as Comm
from quintile.core.run_spec import Consistency as Consistency
from quintile.core.run_spec import HorovodSpec as HorovodSpec
from quintile.core.run_spec import Mode as Mode
from quintile.core.run_spec import ParameterServers as ParameterServers
from quintile.core.run_spec import Resources as Resources
from quintile.core.run_spec import RunSpec as RunSpec
from quintile.core.run_spec import Workers as Workers

Sha256 = Annotated[str, StringConstraints(pattern=patterns.SHA256)]
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
    """A script in a code bundle, run as ``__main__``.

    ``elastic``: the platform keeps its state, by ``hvd.elastic`` or ``quintile.checkpoint``, so
    that it may go on with another number of workers. Nobody else can know this: it is said here.
    """

    bundle: Sha256
    entry: Text
    args: list[Text] = Field(default_factory=list, max_length=256)
    elastic: bool = False


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


class CheckpointSpec(Wire):
    """When state is saved and where a restart begins."""

    every_steps: Annotated[int, Field(ge=1)] = 500
    keep_last: Annotated[int, Field(ge=1, le=100)] = 2
    keep_best: Annotated[int, Field(ge=0, le=100)] = 1
    resume: Literal["Auto", "Never"] = "Auto"
    grace_seconds: Annotated[int, Field(ge=1, le=3600)] = 60


class TelemetrySpec(Wire):
    """What the ranks report, and when silence counts as a stall (0 = never).

    ``startTimeoutSeconds`` counts until the first step; where it is left out, a script, which may
    tell no steps at all, has begun when it runs.
    """

    summary_every_steps: Annotated[int, Field(ge=1)] = 100
    progress_timeout_seconds: Annotated[int, Field(ge=0)] = 600
    start_timeout_seconds: Annotated[int, Field(ge=0)] | None = None


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
    """What the user asked for; immutable but for ``suspend`` and the size of an elastic run.

    ``queue`` and ``runtime`` name what administrators made (kinds Queue and ClusterRuntime; left
    out: the default of the project, if there is one), ``priority`` is a word of that queue.
    ``image`` and ``podOverrides`` are for runtimes that allow them.
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
    image: pod_spec.Image | None = None
    secret_refs: list[pod_spec.SecretRef] = Field(default_factory=list, max_length=16)
    pod_overrides: pod_spec.PodOverrides | None = None
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    suspend: bool = False
    managed_by: Short = "quintile.dev/default"

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        pod_spec.once("hparams", (parameter.name for parameter in self.hparams))
        pod_spec.once("secretRefs", (secret.name for secret in self.secret_refs))
        mounts = self.pod_overrides.volume_mounts if self.pod_overrides is not None else []
        files = [secret.mount_path for secret in self.secret_refs if secret.mount_path is not None]
        taken = {mount.mount_path for mount in mounts} & set(files)
        pod_spec.once("secretRefs with mountPath", [*files, *taken])
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
    """What the reconciler observed; ``phase`` is derived from the conditions, for people.

    ``workers`` is how many take part now: the members of the newest generation that ran.
    """

    observed_generation: int = 0
    phase: TrialPhase = "Pending"
    reason: Short = ""
    message: Text = ""
    conditions: list[Condition] = Field(default_factory=list, max_length=16)
    trials: list[Short] = Field(default_factory=list, max_length=1000)
    mode: Mode | None = None
    workers: int = 0
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
    """One set of hyperparameters of an Experiment, complete, so that a plan needs nothing else.

    ``batchWorkers`` is the number of workers that an elastic run began with. It fixes the global
    batch, however many workers share it later.
    """

    experiment: Name
    experiment_uid: Short
    number: Annotated[int, Field(ge=0)] = 0
    hparams: list[Parameter] = Field(default_factory=list, max_length=100)
    batch_workers: Annotated[int, Field(ge=1, le=1024)] | None = None
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
    workers: int = 0
    restarts: int = 0
    in_place_restarts: int = 0
    progress: Progress = Progress()
    last_failure: LastFailure | None = None
    checkpoint: CheckpointRef | None = None
    sample_accounting: SampleAccounting | None = None
    runtime_sha256: Short = ""
    start_time: str = ""
    completion_time: str = ""


class Trial(Wire):
    """One run of one set of hyperparameters (a "job" in the SDK); owned by its Experiment."""

    api_version: Literal["quintile.dev/v1alpha1"] = API_VERSION
    kind: Literal["Trial"] = "Trial"
    metadata: ObjectMeta
    spec: TrialSpec
    status: TrialStatus | None = None
