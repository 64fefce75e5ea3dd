"""What a user says about a run: hyperparameters and how wide. Frozen dataclasses, stdlib only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

from quintile.core import errors

Value = bool | int | float | str
Mode = Literal["auto", "single", "ddp", "horovod", "mpi", "ps"]
Consistency = Literal["sync", "ssp", "async"]


@dataclass(frozen=True)
class HParams:
    """Hyperparameters; None means: the default of the training loop.

    Attributes:
        iterations: Global steps.
        epochs: Passes over the data when ``iterations`` is not given.
        batch_size: Samples per worker and step.
        learning_rate: Peak rate.
        optimizer: ``sgd`` or ``adamw``.
        momentum: Of sgd.
        weight_decay: Of the optimizer.
        schedule: ``cosine`` or ``constant``.
        warmup: Share of all steps.
        label_smoothing: In [0, 1).
        seed: Of weights, order and augmentation.
        eval_every: Steps between evaluations.
        extra: Further ones by name: of the built-in loop, or for your own functions.
    """

    iterations: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    optimizer: Literal["sgd", "adamw"] | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    schedule: Literal["cosine", "constant"] | None = None
    warmup: float | None = None
    label_smoothing: float | None = None
    seed: int | None = None
    eval_every: int | None = None
    extra: Mapping[str, Value] = field(default_factory=dict)

    def texts(self) -> dict[str, str]:
        """Return what was given, as text by name.

        Raises:
            InvalidSpec: A name is given twice, or a value is no number, boolean or text.
        """
        named = {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name != "extra" and getattr(self, one.name) is not None
        }
        doubled = sorted(set(named) & set(self.extra))
        if doubled:
            raise errors.InvalidSpec(
                f"HParams got {', '.join(doubled)} twice: as a field and in extra.",
                field="hyper_parameters.extra",
            )
        return {name: text(name, value) for name, value in {**named, **self.extra}.items()}


def text(name: str, value: object) -> str:
    """Return a hyperparameter as text.

    Raises:
        InvalidSpec: It is no number, boolean or text.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | str):
        return repr(value) if isinstance(value, float) else str(value)
    raise errors.InvalidSpec(
        f"Hyperparameter {name} is a {type(value).__name__}; expected a number, a boolean or text.",
        field=f"hyper_parameters.{name}",
    )


@dataclass(frozen=True)
class RunConfig:
    """How a run is spread over processes.

    Attributes:
        no_of_ps: Parameter servers; more than 0 means mode ``ps``.
        no_of_workers: Worker processes.
        min_workers: With it (or ``max_workers``) the run is elastic: it goes on without workers
            that are lost while so many are left, and ``job.scale`` changes their number. For
            built-in models and functions, modes ddp and horovod. None = ``no_of_workers``.
        max_workers: The most workers that it can be scaled to. None = ``no_of_workers``.
        summary_save_frequency: Steps between reported metrics.
        run_eval: Whether the evaluation split is evaluated.
        use_gpu: Whether workers get GPUs.
        checkpoint_frequency_in_steps: Steps between checkpoints.
        mode: ``auto`` is single for one worker, ddp for more, and ps with parameter servers.
        consistency: Of parameter servers: ``sync`` (one update a step, as in ddp), ``ssp`` (workers
            may run ahead by ``staleness`` pushes) or ``async``.
        staleness: Bound of ``ssp``; None = 4.
        horovod_controller: How ranks of mode ``horovod`` meet: ``gloo``, or under Open MPI.
        comm: How gradients travel in mode ``ddp``: ``gloo`` is TCP, ``shm`` is memory that ranks
            of one host share, ``auto`` is shm wherever that works.
        deterministic: Same seed, same result; slower.
        cpu: What one worker may use, as ``2`` or ``500m``.
        memory: What one worker may use, as ``2Gi``.
        max_restarts: How often the run may start anew before it fails.
        progress_timeout_s: Seconds without a finished step that restart the ranks; 0 = never.
        start_timeout_s: The same before the first step. None = 1800, and a script need not tell
            steps.
        failure_rules: As ``{"action": "RestartUncounted", "exitCodes": [42]}``; the first that fits
            decides what follows when a rank ends. See ``docs/failures.md``.
        env: Environment variables for the ranks.
        queue: Name of the queue that admits the run; None = the default, if there is one.
        priority: A word of that queue.
        runtime: Name of the ClusterRuntime that describes the pods.
        image: Image of the pods, where the runtime allows one of your own.
        secrets: Secrets of the project for the ranks, as an administrator allowed them: name to
            the folder where its keys are files, or None for environment variables.
        pod_overrides: As ``spec.podOverrides``, where the runtime allows it. What these last six
            say is for a cluster.
    """

    no_of_ps: int = 0
    no_of_workers: int = 1
    summary_save_frequency: int = 100
    run_eval: bool = True
    use_gpu: bool = False
    checkpoint_frequency_in_steps: int = 500
    mode: Mode = "auto"
    horovod_controller: Literal["gloo", "mpi"] = "gloo"
    comm: Literal["auto", "gloo", "shm"] = "auto"
    deterministic: bool = False
    cpu: str | None = None
    memory: str | None = None
    max_restarts: int = 3
    progress_timeout_s: int = 600
    start_timeout_s: int | None = None
    failure_rules: Sequence[Mapping[str, object]] = ()
    consistency: Consistency = "sync"
    staleness: int | None = None
    min_workers: int | None = None
    max_workers: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    queue: str | None = None
    priority: str | None = None
    runtime: str | None = None
    image: str | None = None
    secrets: Mapping[str, str | None] = field(default_factory=dict)
    pod_overrides: Mapping[str, object] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what no run can be.

        Raises:
            InvalidSpec: A number makes no sense, or options do not go together.
        """
        least = {
            "no_of_ps": 0,
            "no_of_workers": 1,
            "summary_save_frequency": 1,
            "checkpoint_frequency_in_steps": 1,
            "max_restarts": 0,
            "progress_timeout_s": 0,
            "start_timeout_s": 0,
        }
        for name, low in least.items():
            value = getattr(self, name)
            if value is None and name == "start_timeout_s":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise errors.InvalidSpec(
                    f"RunConfig.{name} is {value!r}; expected a whole number, {low} or more.",
                    field=f"run_config.{name}",
                )
        self._check_servers()

    def _check_servers(self) -> None:
        if self.mode == "ps" and self.no_of_ps == 0:
            raise errors.InvalidSpec(
                "RunConfig.mode is ps but no_of_ps is 0.",
                hint="Give no_of_ps=1 or more; about one server for four workers is usual.",
                field="run_config.no_of_ps",
            )
        if self.mode not in ("ps", "auto") and self.no_of_ps > 0:
            raise errors.InvalidSpec(
                f"RunConfig.no_of_ps is {self.no_of_ps} but mode is {self.mode}.",
                hint="Leave mode out to use parameter servers, or set no_of_ps=0.",
                field="run_config.mode",
            )
        if self.consistency != "sync" and self.no_of_ps == 0:
            raise errors.InvalidSpec(
                f"RunConfig.consistency is {self.consistency} but there are no parameter servers.",
                hint="Give no_of_ps=1 or more, or leave consistency out.",
                field="run_config.consistency",
            )
        if self.staleness is not None and self.consistency != "ssp":
            raise errors.InvalidSpec(
                f"RunConfig.staleness is {self.staleness} but consistency is {self.consistency}.",
                hint='Only consistency="ssp" has a bound; leave staleness out.',
                field="run_config.staleness",
            )
