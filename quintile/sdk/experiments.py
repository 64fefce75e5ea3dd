"""``Experiment``: submit a run and get at its job, for notebooks.

Every call is one of ``AsyncExperiment``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Unpack

from quintile.sdk import async_experiments, blocking, configuration, data, estimators, submission
from quintile.sdk.jobs import Job
from quintile.sdk.run_config import HParams, RunConfig

if TYPE_CHECKING:
    from quintile.core import experiment

Data = async_experiments.Data
Words = async_experiments.Words


class Experiment:
    """A submitted experiment."""

    def __init__(
        self,
        session: blocking.Session,
        name: str,
        *,
        model_fn: estimators.Function | None = None,
    ) -> None:
        self._session = session
        self.name = name
        self._model_fn = model_fn
        self._aio = async_experiments.AsyncExperiment(session.aio, name, model_fn=model_fn)

    def __repr__(self) -> str:
        return f"<Experiment {self.name}>"

    def _repr_html_(self) -> str:
        phase = self.status().phase
        return f"<b>Experiment {escape(self.name)}</b>: {escape(str(phase))}"

    @classmethod
    def run(
        cls,
        *,
        experiment_name: str,
        estimator: estimators.Estimator,
        hyper_parameters: HParams | None = None,
        run_config: RunConfig | None = None,
        dataset_version_split: Data | None = None,
        input_function: estimators.Function | None = None,
        **words: Unpack[Words],
    ) -> Experiment:
        """Submit an experiment; returns at once.

        Args:
            experiment_name: Unique in the project: small letters, digits and dashes.
            estimator: What to train.
            hyper_parameters: How to train it.
            run_config: How wide.
            dataset_version_split: The data, as ``"digits:2/holdout"`` or what ``Dataset`` gives.
            input_function: ``input_fn(split, hparams)`` instead of a dataset: returns inputs and
                targets of ``"train"`` and ``"eval"``.
            **words: ``description``.

        Raises:
            InsideWorker: This process is a worker of a run itself.
            Conflict: The name is taken.
            InvalidSpec: Something cannot work; says what.
        """
        configuration.refuse_inside_rank()
        session = blocking.current()
        given = async_experiments.Arguments(
            experiment_name=experiment_name,
            estimator=estimator,
            hyper_parameters=hyper_parameters,
            run_config=run_config,
            dataset_version_split=dataset_version_split,
            input_function=input_function,
            **words,
        )
        reference = data.reference(session, dataset_version_split)
        for note in submit(session, experiment_name, async_experiments.wanted(given, reference)):
            sys.stderr.write(f"quintile: {note}\n")
        return cls(session, experiment_name, model_fn=async_experiments.model_fn_of(estimator))

    @classmethod
    def get(cls, name: str) -> Experiment:
        """Return an experiment that exists."""
        session = blocking.current()
        session.run(session.client.experiments.get(session.project, name))
        return cls(session, name)

    @classmethod
    def list(cls) -> Sequence[Experiment]:
        """Return all experiments of the project by name."""
        session = blocking.current()
        found = session.collect(session.client.experiments.list(session.project))
        return [cls(session, one.metadata.name) for one in found]

    def status(self) -> experiment.ExperimentStatus:
        """Return the state of now."""
        return self._session.run(self._aio.status())

    def jobs(self) -> Sequence[Job]:
        """Return the jobs that exist by now."""
        return [self._job(one.name) for one in self._session.run(self._aio.jobs())]

    def get_single_job(self) -> Job:
        """Return the one job of an experiment without a search; waits until it exists.

        Raises:
            Conflict: There are several.
            TimeoutError: There is none after a minute: nothing reconciles.
        """
        return self._job(self._session.run(self._aio.get_single_job()).name)

    def best(self, metric: str = "", *, higher_is_better: bool | None = None) -> Job:
        """Return the job that reached the best value of a metric.

        Args:
            metric: As ``eval/accuracy``; empty = the usual one of the evaluation.
            higher_is_better: None = by its name: less is better for losses and errors.

        Raises:
            NotFound: No job reported it.
        """
        found = self._aio.best(metric, higher_is_better=higher_is_better)
        return self._job(self._session.run(found).name)

    def to_dataframe(self) -> Any:
        """Return a pandas DataFrame: a row per job with hyperparameters and newest metrics.

        Raises:
            InvalidSpec: pandas is not installed here.
        """
        return self._session.run(self._aio.to_dataframe())

    def delete(self) -> None:
        """Delete the experiment with its jobs; running ones end."""
        self._session.run(self._aio.delete())

    def _job(self, name: str) -> Job:
        return Job(self._session, name, experiment=self.name, model_fn=self._model_fn)


def submit(session: blocking.Session, name: str, wanted: submission.Wanted) -> tuple[str, ...]:
    """Pack and send the code, then make the experiment; return what the user should know.

    Raises:
        QuintileError: Something is wrong; when it shows in what was given, nothing was sent.
    """
    packed = async_experiments.pack(name, wanted)
    session.run(async_experiments.send(session.aio, packed))
    return packed.notes
