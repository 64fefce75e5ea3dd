"""Results as tables. Rows are made here; pandas, if it is installed, makes the DataFrame."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quintile.core import errors

if TYPE_CHECKING:
    from quintile.core import experiment

Row = dict[str, Any]


def of_metrics(points: Mapping[str, Sequence[tuple[int, float]]]) -> Any:
    """Return a DataFrame of metrics, indexed by step.

    Raises:
        InvalidSpec: pandas is not installed.
    """
    return _dataframe(metric_rows(points), index="step")


def of_jobs(trials: Sequence[experiment.Trial]) -> Any:
    """Return a DataFrame of jobs, indexed by name.

    Raises:
        InvalidSpec: pandas is not installed.
    """
    return _dataframe(job_rows(trials), index="job")


def metric_rows(points: Mapping[str, Sequence[tuple[int, float]]]) -> list[Row]:
    """Return a row per step with the metrics that were reported then. Pure."""
    rows: dict[int, Row] = {}
    for name, series in points.items():
        for step, value in series:
            rows.setdefault(step, {"step": step})[name] = value
    return [rows[step] for step in sorted(rows)]


def job_rows(trials: Sequence[experiment.Trial]) -> list[Row]:
    """Return a row per job: phase, step, hyperparameters, newest metrics. Pure."""
    rows = []
    for trial in trials:
        state = trial.status
        row: Row = {
            "job": trial.metadata.name,
            "phase": "Pending" if state is None else state.phase,
        }
        row |= {f"hparams/{one.name}": one.value for one in trial.spec.hparams}
        if state is not None:
            row |= {"step": state.progress.step, "restarts": state.restarts}
            row |= {one.name: _number(one.value) for one in state.progress.metrics}
        rows.append(row)
    return rows


def _dataframe(rows: Sequence[Row], *, index: str) -> Any:
    try:
        pandas = importlib.import_module("pandas")
    except ModuleNotFoundError as error:
        raise errors.InvalidSpec(
            "A DataFrame needs pandas, which is not installed here.",
            hint="pip install pandas, or use job.metrics(), which needs nothing.",
        ) from error
    columns = list(dict.fromkeys((index, *(name for row in rows for name in row))))
    return pandas.DataFrame(rows, columns=columns).set_index(index)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
