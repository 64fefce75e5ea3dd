"""From a run mode to roles and numbers of replicas. Pure.

Called by ``core.plan`` and, to refuse early, by the API and ``core.reconcile``.
"""

from __future__ import annotations

from dataclasses import dataclass

from quintile.core import errors, experiment

BY_GPU = ("ddp", "horovod", "mpi")
"""Modes that start a rank for every GPU of a worker."""


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
    """Return mode and roles of a run; ``auto`` is single for one worker, ddp for more.

    Raises:
        InvalidSpec: An option of the mode is not in this release.
    """
    mode = _mode(run)
    workers = run.workers
    elastic = [name for name in ("min", "max") if getattr(workers, name) is not None]
    if elastic:
        raise errors.InvalidSpec(
            f"run.workers.{elastic[0]} asks for an elastic run, which is not in this release.",
            hint="Remove min and max; a fixed number of workers restarts in place after a loss.",
            field=f"spec.run.workers.{elastic[0]}",
        )
    procs = max(1, run.resources.gpu) if run.use_gpu and mode in BY_GPU else 1
    roles = [Role("worker", workers.replicas, procs)]
    if mode == "ps":
        roles.append(Role("ps", run.ps.replicas, 1))
    return Topology(mode=mode, roles=tuple(roles))


def _mode(run: experiment.RunSpec) -> experiment.Mode:
    mode = run.mode
    if mode == "auto" and run.ps.replicas == 0:
        many = run.workers.replicas > 1 or (run.use_gpu and run.resources.gpu > 1)
        return "ddp" if many else "single"
    return "ps" if mode == "auto" else mode
