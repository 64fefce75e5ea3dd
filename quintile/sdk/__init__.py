"""The notebook SDK.

::

    from quintile.sdk import Estimator, Experiment, HParams, RunConfig

    estimator = Estimator.NewClassificationEstimator(model_fn=my_model_fn)
    run = Experiment.run(experiment_name="first", estimator=estimator, input_function=my_input_fn,
                         hyper_parameters=HParams(iterations=200), run_config=RunConfig())
    run.get_single_job().wait_until_finish()

Importing it is cheap: everything loads on first use, and nothing here ever imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quintile.sdk.async_experiments import AsyncExperiment
    from quintile.sdk.async_jobs import AsyncJob
    from quintile.sdk.async_session import AsyncSession, connect_async
    from quintile.sdk.blocking import Session, connect
    from quintile.sdk.client import AsyncClient
    from quintile.sdk.configuration import InsideWorker
    from quintile.sdk.data import Dataset, DatasetVersion, SplitRef
    from quintile.sdk.estimators import Estimator
    from quintile.sdk.experiments import Experiment
    from quintile.sdk.jobs import Job
    from quintile.sdk.labeling import LabelingConfig, LabelingJob
    from quintile.sdk.run_config import HParams, RunConfig

_HOMES = {
    "AsyncClient": "client",
    "AsyncExperiment": "async_experiments",
    "AsyncJob": "async_jobs",
    "AsyncSession": "async_session",
    "Dataset": "data",
    "DatasetVersion": "data",
    "Estimator": "estimators",
    "Experiment": "experiments",
    "HParams": "run_config",
    "InsideWorker": "configuration",
    "Job": "jobs",
    "LabelingConfig": "labeling",
    "LabelingJob": "labeling",
    "RunConfig": "run_config",
    "Session": "blocking",
    "SplitRef": "data",
    "connect": "blocking",
    "connect_async": "async_session",
}

__all__ = [
    "AsyncClient",
    "AsyncExperiment",
    "AsyncJob",
    "AsyncSession",
    "Dataset",
    "DatasetVersion",
    "Estimator",
    "Experiment",
    "HParams",
    "InsideWorker",
    "Job",
    "LabelingConfig",
    "LabelingJob",
    "RunConfig",
    "Session",
    "SplitRef",
    "connect",
    "connect_async",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"quintile.sdk.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
