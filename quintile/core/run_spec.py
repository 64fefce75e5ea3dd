"""How a run is spread over processes: mode, workers, parameter servers, resources.

Part of ``core.experiment``, which names everything here too.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from quintile.core.meta import Short, Wire

Mode = Literal["auto", "single", "ddp", "horovod", "mpi", "ps"]
Comm = Literal["auto", "gloo", "shm"]
Consistency = Literal["sync", "ssp", "async"]


class Workers(Wire):
    """How many worker processes. A run that names ``min`` or ``max`` is elastic.

    Of an elastic run ``replicas`` may change between ``min`` and ``max`` while it runs, and it goes
    on with fewer workers, but not fewer than ``min``, while some are lost. ``min`` left out is
    ``replicas``: nobody may be missing, and the run can only grow. ``max`` left out is
    ``replicas``: it can only shrink.
    """

    replicas: Annotated[int, Field(ge=1, le=1024)] = 1
    min: Annotated[int, Field(ge=1, le=1024)] | None = None
    max: Annotated[int, Field(ge=1, le=1024)] | None = None

    @property
    def elastic(self) -> bool:
        """Whether the number of workers may change while the run goes on."""
        return self.min is not None or self.max is not None

    @property
    def least(self) -> int:
        """The number of workers without which the run does not go on."""
        return self.replicas if self.min is None else self.min

    @property
    def most(self) -> int:
        """The largest number of workers that may be asked for."""
        return self.replicas if self.max is None else self.max


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
