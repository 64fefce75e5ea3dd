"""Results as tables, and which job is the best."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from quintile.core import errors, experiment
from quintile.sdk import frames, ranking, step_times

POINTS = {"loss": [(1, 0.5), (2, 0.25)], "eval/accuracy": [(2, 0.75)]}


def trial(name: str, **status: Any) -> experiment.Trial:
    body: dict[str, Any] = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "experiment": "digits",
            "experimentUid": "uid",
            "hparams": [{"name": "lr", "value": "0.1"}],
            "template": {"estimator": {"builtin": {"model": "resnet8"}}},
        },
    }
    return experiment.Trial.model_validate({**body, "status": status} if status else body)


def test_metrics_are_rows_by_step() -> None:
    assert frames.metric_rows(POINTS) == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": 0.25, "eval/accuracy": 0.75},
    ]


def test_jobs_are_rows() -> None:
    metrics = [{"name": "loss", "value": "0.25"}]
    done = trial("b", phase="Succeeded", progress={"step": 9, "metrics": metrics})
    waiting, ended = frames.job_rows([trial("a"), done])
    assert waiting == {"job": "a", "phase": "Pending", "hparams/lr": "0.1"}
    assert (ended["phase"], ended["step"], ended["loss"]) == ("Succeeded", 9, 0.25)


def test_without_pandas_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(errors.InvalidSpec, match="pandas") as caught:
        frames.of_metrics(POINTS)
    assert "pip install pandas" in caught.value.hint


def test_pandas_gets_rows_columns_and_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    class DataFrame:
        def __init__(self, rows: Any, columns: Any) -> None:
            self.rows, self.columns = rows, columns

        def set_index(self, name: str) -> Any:
            return (self.columns, name, len(self.rows))

    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=DataFrame))
    assert frames.of_metrics(POINTS) == (["step", "loss", "eval/accuracy"], "step", 2)


def test_the_best_job_by_the_usual_metric() -> None:
    jobs = {
        "a": {"eval/accuracy": [(1, 0.5), (2, 0.9)], "eval/loss": [(2, 3.0)]},
        "b": {"eval/accuracy": [(1, 0.8), (2, 0.7)], "eval/loss": [(2, 1.0)]},
        "c": {"loss": [(1, 0.1)]},
    }
    assert ranking.best(jobs) == "a"
    assert ranking.best(jobs, metric="eval/loss") == "b"
    assert ranking.best(jobs, metric="eval/loss", higher_is_better=True) == "a"
    assert ranking.best(jobs, metric="loss") == "c"


def test_no_best_without_an_evaluation() -> None:
    with pytest.raises(errors.NotFound, match="evaluated"):
        ranking.best({"a": {"loss": [(1, 0.1)]}})
    with pytest.raises(errors.NotFound, match="recall") as caught:
        ranking.best({"a": {"loss": [(1, 0.1)]}}, metric="recall")
    assert "loss" in caught.value.hint


def test_a_breakdown_is_what_was_reported_last() -> None:
    points = {
        "goodput": [(5, 0.25), (10, 0.5)],
        "step/data_ms": [(5, 9.0), (10, 1.0)],
        "step/forward_ms": [(5, 9.0), (10, 3.0)],
        "train/loss": [(10, 0.1)],
    }
    found = step_times.read(points, job="a")
    assert (found.step, found.goodput, found.total_ms) == (10, 0.5, 4.0)
    assert list(found.parts.items()) == [("forward", 3.0), ("data", 1.0)]
    assert found.shares() == {"forward": 0.75, "data": 0.25}
    assert step_times.Breakdown(1, {"data": 0.0}, None).shares() == {"data": 0.0}


def test_a_job_that_reports_no_times_says_so() -> None:
    with pytest.raises(errors.NotFound, match="Job a has not reported") as caught:
        step_times.read({"loss": [(1, 0.5)], "step/data_ms": []}, job="a")
    assert "scripts do not" in caught.value.hint
