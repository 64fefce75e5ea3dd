"""``Experiment``: submit a run and get at its job, for notebooks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, TypedDict, Unpack

from quintile.core import errors
from quintile.sdk import (
    blocking,
    configuration,
    data,
    estimators,
    submission,
)
from quintile.sdk.jobs import Job
from quintile.sdk.run_config import HParams, RunConfig

if TYPE_CHECKING:
    from quintile.core import experiment

Data = str | data.SplitRef | data.DatasetVersion | data.Dataset


class Words(TypedDict, total=False):
    """What people read: ``description`` of the experiment."""

    description: str


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
        wanted = submission.Wanted(
            estimator=estimator,
            hparams=hyper_parameters or HParams(),
            config=run_config or RunConfig(),
            dataset=data.reference(session, dataset_version_split),
            input_fn=input_function,
            description=words.get("description", ""),
        )
        for note in submit(session, experiment_name, wanted):
            sys.stderr.write(f"quintile: {note}\n")
        program = estimator.program
        model_fn = program.model_fn if isinstance(program, estimators.Functions) else None
        return cls(session, experiment_name, model_fn=model_fn)

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
        from quintile.core import experiment

        calls, project = self._session.client.experiments, self._session.project
        return self._session.run(calls.get(project, self.name)).status or (
            experiment.ExperimentStatus()
        )

    def jobs(self) -> Sequence[Job]:
        """Return the jobs that exist by now."""
        calls, project = self._session.client.trials, self._session.project
        found = self._session.collect(calls.list(project, of=self.name))
        return [self._job(one.metadata.name) for one in found]

    def get_single_job(self) -> Job:
        """Return the one job of an experiment without a search; waits until it exists.

        Raises:
            Conflict: There are several.
            TimeoutError: There is none after a minute: nothing reconciles.
        """
        from quintile.sdk import following

        session = self._session
        name = session.run(following.first_trial(session.client, session.project, self.name))
        found = self.jobs()
        if len(found) > 1:
            raise errors.Conflict(
                f"Experiment {self.name!r} has {len(found)} jobs.", hint="Use .jobs()."
            )
        return self._job(name)

    def delete(self) -> None:
        """Delete the experiment with its jobs; running ones end."""
        calls, project = self._session.client.experiments, self._session.project
        self._session.run(calls.delete(project, self.name))

    def _job(self, name: str) -> Job:
        return Job(self._session, name, experiment=self.name, model_fn=self._model_fn)


def submit(session: blocking.Session, name: str, wanted: submission.Wanted) -> tuple[str, ...]:
    """Pack and send the code, then make the experiment; return what the user should know.

    Raises:
        QuintileError: Something is wrong; when it shows in what was given, nothing was sent.
    """
    from quintile.sdk import run_calls

    wanted.config.check()
    bundle = submission.pack(wanted)
    spec = submission.spec_of(wanted, bundle)
    run_calls.check(spec)
    if bundle is not None:
        session.run(session.client.experiments.put_bundle(bundle.data))
    document = {"name": name, "spec": spec}
    session.run(session.client.experiments.create(session.project, document))
    return bundle.notes if bundle is not None else ()
