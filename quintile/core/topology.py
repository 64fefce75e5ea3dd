"""From a run mode to roles and numbers of replicas. Pure.

Called by ``core.plan`` and, to refuse early, by the API and ``core.reconcile``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from quintile.core import errors, experiment

BY_GPU = ("ddp", "horovod", "mpi")
"""Modes that start a rank for every GPU of a worker."""
ELASTIC = ("ddp", "horovod")
"""Modes whose number of workers may change while they run."""


@dataclass(frozen=True)
class Role:
    """One kind of replica: its name, how many of it, ranks that each starts."""

    name: str
    replicas: int
    procs: int


@dataclass(frozen=True)
class Topology:
    """The resolved mode (never ``auto``) and its roles."""

    mode: experiment.Mode
    roles: tuple[Role, ...]

    @property
    def members(self) -> dict[str, int]:
        """Return the number of replicas by role."""
        return {role.name: role.replicas for role in self.roles}


def resolve(run: experiment.RunSpec) -> Topology:
    """Return mode and roles of a run.

    ``auto`` is single for one worker, ddp for more and for an elastic run.

    Raises:
        InvalidSpec: An elastic run is asked for in a mode that has none.
    """
    mode = _mode(run)
    workers = run.workers
    if workers.elastic and mode not in ELASTIC:
        _refuse(
            workers,
            f"mode is {mode}" if run.mode == mode else f"mode auto means {mode} here",
            hint=f"Elastic runs are for modes {' and '.join(ELASTIC)}.",
        )
    if workers.elastic and mode == "horovod" and run.horovod.controller == "mpi":
        _refuse(
            workers,
            "horovod.controller is mpi",
            hint="Use horovod.controller gloo: mpirun cannot take workers in.",
        )
    procs = max(1, run.resources.gpu) if run.use_gpu and mode in BY_GPU else 1
    roles = [Role("worker", workers.replicas, procs)]
    if mode == "ps":
        roles.append(Role("ps", run.ps.replicas, 1))
    return Topology(mode=mode, roles=tuple(roles))


def check_elastic(spec: experiment.ExperimentSpec) -> None:
    """Refuse an elastic run of a program that cannot go on at another size.

    Raises:
        InvalidSpec: The platform does not keep its state.
    """
    if not spec.run.workers.elastic:
        return
    if spec.estimator.script is not None and not spec.estimator.script.elastic:
        _refuse(
            spec.run.workers,
            f"the script {spec.estimator.script.entry} is not known to keep its state by the "
            "platform",
            hint="Let it use hvd.elastic (in mode horovod) or quintile.checkpoint and "
            "quintile.restored, and say so if that is not seen in its first file: "
            "estimator.script.elastic: true, in the SDK Estimator.script(..., elastic=True). Or "
            "use functions or a built-in model.",
        )
    if spec.estimator.labeling_round is not None:
        _refuse(
            spec.run.workers, "a labeling round runs one worker", hint="Remove min and max from it."
        )


def _refuse(workers: experiment.Workers, why: str, *, hint: str) -> NoReturn:
    name = "min" if workers.min is not None else "max"
    raise errors.InvalidSpec(
        f"run.workers.{name} asks for an elastic run, but {why}.",
        hint=f"{hint} Without min and max the number of workers is fixed, and a loss is made good "
        "by a restart.",
        field=f"spec.run.workers.{name}",
    )


def _mode(run: experiment.RunSpec) -> experiment.Mode:
    mode = run.mode
    if mode == "auto" and run.ps.replicas == 0:
        workers = run.workers
        many = workers.replicas > 1 or workers.elastic or (run.use_gpu and run.resources.gpu > 1)
        return "ddp" if many else "single"
    return "ps" if mode == "auto" else mode
