"""What a calibration measures, as JSON: written by ``quintile_trainer.calibrate``, read here."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from quintile.core.meta import Message

FORMAT: Final = "quintile.calibration/1"
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Part = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Ranks = Annotated[int, Field(ge=1, le=1024)]
Bytes = Annotated[int, Field(ge=1)]


class Machine(Message):
    """Where it was measured: usable processors (a quota counts), threads of one worker."""

    processor: Word
    processors: Seconds
    threads: Annotated[int, Field(ge=1)]
    load: Part
    software: dict[str, str] = Field(default_factory=dict, max_length=32)


class Bucket(Message):
    """Gradients that are summed together, and at which share of the backward pass they are ready.

    In the order in which they become ready.
    """

    size_bytes: Bytes
    ready: Annotated[float, Field(ge=0, le=1)]


class Profile(Message):
    """One model with its batch, alone on one worker: seconds of the parts of a step, medians."""

    name: Word
    model: Word
    batch: Annotated[int, Field(ge=1)]
    image: list[Annotated[int, Field(ge=1)]] = Field(min_length=3, max_length=3)
    parameters: Annotated[int, Field(ge=1)]
    input_s: Part
    forward_s: Seconds
    backward_s: Seconds
    update_s: Part
    buckets: list[Bucket] = Field(min_length=1, max_length=10_000)

    @property
    def step_s(self) -> float:
        """Return the seconds of all parts."""
        return self.input_s + self.forward_s + self.backward_s + self.update_s

    @property
    def gradient_bytes(self) -> int:
        """Return what one worker gives to a sum."""
        return sum(one.size_bytes for one in self.buckets)


class StepRun(Message):
    """Steps of one profile on ``ranks`` workers, spread evenly over ``hosts``.

    ``way``: ``alone`` one worker, ``wrapped`` one that is ready to sum gradients but has nobody to,
    ``apart`` several that never meet, ``ddp`` several that sum their gradients.

    ``times_s`` is by the clock on the wall; ``cpu_s``, where a worker has one thread, by the clock
    of that thread, which the work of others does not move.
    """

    profile: Word
    ranks: Ranks
    hosts: Ranks = 1
    way: Literal["alone", "wrapped", "apart", "ddp"]
    times_s: list[Seconds] = Field(min_length=1, max_length=100_000)
    cpu_s: list[Seconds] = Field(default_factory=list, max_length=100_000)

    @property
    def per_host(self) -> int:
        """Return the workers of the fullest host."""
        return -(-self.ranks // self.hosts)


class SumRun(Message):
    """All-reduces of one size among ``ranks`` workers, spread evenly over ``hosts``."""

    ranks: Annotated[int, Field(ge=2, le=1024)]
    hosts: Ranks = 1
    size_bytes: Bytes
    times_s: list[Seconds] = Field(min_length=1, max_length=100_000)

    @property
    def per_host(self) -> int:
        """Return the workers of the fullest host."""
        return -(-self.ranks // self.hosts)


class Loader(Message):
    """How fast one thread decodes stored images, and how large they are stored."""

    images_per_s: Seconds
    image_bytes: Seconds


class Calibration(Message):
    """One calibration of one machine."""

    format: Literal["quintile.calibration/1"] = FORMAT
    made_at: Word
    took_s: Seconds
    machine: Machine
    add_bytes_per_s: Seconds
    profiles: list[Profile] = Field(min_length=1, max_length=64)
    steps: list[StepRun] = Field(min_length=1, max_length=1000)
    sums: list[SumRun] = Field(min_length=1, max_length=1000)
    loader: Loader | None = None

    def profile(self, name: str) -> Profile:
        """Return a profile by its name.

        Raises:
            KeyError: There is none.
        """
        found = {one.name: one for one in self.profiles}
        return found[name]

    def runs(self, name: str, way: str) -> tuple[StepRun, ...]:
        """Return the runs of a profile that went a way."""
        return tuple(run for run in self.steps if run.profile == name and run.way == way)
