"""``AsyncExperiment``: submit a run and get at its job, for code that awaits.

``Experiment`` is its blocking twin; both share everything but the waiting.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Required, TypedDict, Unpack

from quintile.core import errors
from quintile.sdk import async_session, configuration, data, estimators, ranking, submission
from quintile.sdk.async_jobs import AsyncJob
from quintile.sdk.run_config import HParams, RunConfig

if TYPE_CHECKING:
    from quintile.core import experiment
    from quintile.sdk import bundles

Data = str | data.SplitRef | data.DatasetVersion | data.Dataset


class Words(TypedDict, total=False):
    """What people read: ``description``. And ``search``, which is refused in this release."""

    description: str
    search: object


class Arguments(Words, total=False):
    """The arguments of ``Experiment.run``; they are explained there."""

    experiment_name: Required[str]
    estimator: Required[estimators.Estimator]
    hyper_parameters: HParams | None
    run_config: RunConfig | None
    dataset_version_split: Data | None
    input_function: estimators.Function | None


@dataclass(frozen=True)
class Packed:
    """An experiment that is ready to be sent, with its code."""

    document: dict[str, Any]
    bundle: bundles.Bundle | None

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what the user should know."""
        return self.bundle.notes if self.bundle is not None else ()


class AsyncExperiment:
    """A submitted experiment. The methods are those of ``Experiment``, to be awaited."""

    def __init__(
        self,
        session: async_session.AsyncSession,
        name: str,
        *,
        model_fn: estimators.Function | None = None,
    ) -> None:
        self._session = session
        self.name = name
        self._model_fn = model_fn

    def __repr__(self) -> str:
        return f"<AsyncExperiment {self.name}>"

    @classmethod
    async def run(
        cls, session: async_session.AsyncSession, **given: Unpack[Arguments]
    ) -> AsyncExperiment:
        """Submit an experiment; returns at once. Arguments and errors are those of the twin."""
        configuration.refuse_inside_rank()
        reference = await data.resolve(session, given.get("dataset_version_split"))
        packed = await asyncio.to_thread(pack, given["experiment_name"], wanted(given, reference))
        await send(session, packed)
        for note in packed.notes:
            sys.stderr.write(f"quintile: {note}\n")
        return cls(session, given["experiment_name"], model_fn=model_fn_of(given["estimator"]))

    @classmethod
    async def get(cls, session: async_session.AsyncSession, name: str) -> AsyncExperiment:
        """Return an experiment that exists."""
        await session.client.experiments.get(session.project, name)
        return cls(session, name)

    @classmethod
    async def list(cls, session: async_session.AsyncSession) -> Sequence[AsyncExperiment]:
        """Return all experiments of the project by name."""
        found = session.client.experiments.list(session.project)
        return [cls(session, one.metadata.name) async for one in found]

    async def status(self) -> experiment.ExperimentStatus:
        """Return the state of now."""
        from quintile.core import experiment

        found = await self._session.client.experiments.get(self._session.project, self.name)
        return found.status or experiment.ExperimentStatus()

    async def jobs(self) -> Sequence[AsyncJob]:
        """Return the jobs that exist by now."""
        return [self._job(one.metadata.name) for one in await self._trials()]

    async def get_single_job(self) -> AsyncJob:
        """Return the one job of an experiment without a search; waits until it exists."""
        from quintile.sdk import following

        session = self._session
        name = await following.first_trial(session.client, session.project, self.name)
        found = await self.jobs()
        if len(found) > 1:
            raise errors.Conflict(
                f"Experiment {self.name!r} has {len(found)} jobs.", hint="Use .jobs() or .best()."
            )
        return self._job(name)

    async def best(self, metric: str = "", *, higher_is_better: bool | None = None) -> AsyncJob:
        """Return the job that reached the best value of a metric."""
        points = {job.name: await job.metrics() for job in await self.jobs()}
        return self._job(ranking.best(points, metric=metric, higher_is_better=higher_is_better))

    async def to_dataframe(self) -> Any:
        """Return a pandas DataFrame: a row per job with hyperparameters and newest metrics."""
        from quintile.sdk import frames

        return frames.of_jobs(await self._trials())

    async def delete(self) -> None:
        """Delete the experiment with its jobs; running ones end."""
        await self._session.client.experiments.delete(self._session.project, self.name)

    async def _trials(self) -> Sequence[experiment.Trial]:
        found = self._session.client.trials.list(self._session.project, of=self.name)
        return [one async for one in found]

    def _job(self, name: str) -> AsyncJob:
        return AsyncJob(self._session, name, experiment=self.name, model_fn=self._model_fn)


def wanted(given: Arguments, reference: dict[str, Any] | None) -> submission.Wanted:
    """Return what is asked for.

    Raises:
        InvalidSpec: A search.
    """
    if given.get("search") is not None:
        raise errors.InvalidSpec(
            "Experiment.run(search=...) is not in this release.",
            hint="Submit an experiment for each set of hyperparameters, and compare their jobs.",
            field="search",
        )
    return submission.Wanted(
        estimator=given["estimator"],
        hparams=given.get("hyper_parameters") or HParams(),
        config=given.get("run_config") or RunConfig(),
        dataset=reference,
        input_fn=given.get("input_function"),
        description=given.get("description", ""),
    )


def pack(name: str, asked: submission.Wanted) -> Packed:
    """Pack the code and check the whole; nothing is sent.

    Raises:
        QuintileError: Something is wrong; says what.
    """
    from quintile.sdk import run_calls

    asked.config.check()
    bundle = submission.pack(asked)
    spec = submission.spec_of(asked, bundle)
    run_calls.check(spec)
    return Packed({"name": name, "spec": spec}, bundle)


async def send(session: async_session.AsyncSession, packed: Packed) -> None:
    """Send the code, then make the experiment.

    Raises:
        QuintileError: What the server said.
    """
    if packed.bundle is not None:
        await session.client.experiments.put_bundle(packed.bundle.data)
    await session.client.experiments.create(session.project, packed.document)


def model_fn_of(estimator: estimators.Estimator) -> estimators.Function | None:
    """Return the function that builds the model, for jobs of functions."""
    program = estimator.program
    return program.model_fn if isinstance(program, estimators.Functions) else None
