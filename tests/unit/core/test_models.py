"""The wire models: what they take, what they refuse and with which words."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quintile.core import experiment, labeling_job, meta

BUILTIN: dict[str, Any] = {"builtin": {}}
SHA = "0" * 64


def spec(**of: Any) -> dict[str, Any]:
    return {"estimator": BUILTIN, **of}


def job(**of: Any) -> dict[str, Any]:
    return {"dataset": {"name": "parts", "version": 1}, "labels": ["ok", "bad"], **of}


@pytest.mark.parametrize(
    ("document", "where", "words"),
    [
        ({}, ("estimator",), "required"),
        (spec(unknown=1), ("unknown",), "not permitted"),
        (spec(estimator={}), ("estimator",), "exactly one of builtin"),
        (
            spec(estimator={**BUILTIN, "script": {"bundle": SHA, "entry": "a.py"}}),
            ("estimator",),
            "got 2",
        ),
        (spec(estimator={"builtin": {"model": "vgg"}}), ("estimator", "builtin", "model"), "resne"),
        (
            spec(estimator={"functions": {"bundle": "abc"}}),
            ("estimator", "functions", "bundle"),
            "",
        ),
        (
            spec(estimator={**BUILTIN, "env": [{"name": "QUINTILE_TOKEN", "value": "x"}]}),
            ("estimator",),
            "'QUINTILE_TOKEN' is reserved",
        ),
        (
            spec(estimator={**BUILTIN, "env": [{"name": "1A", "value": "x"}]}),
            ("estimator", "env", 0, "name"),
            "pattern",
        ),
        (spec(run={"workers": {"replicas": 0}}), ("run", "workers", "replicas"), "greater"),
        (spec(run={"workers": {"replicas": 2000}}), ("run", "workers", "replicas"), "less"),
        (spec(run={"mode": "ps"}), ("run",), "needs ps.replicas >= 1"),
        (spec(run={"mode": "ddp", "ps": {"replicas": 1}}), ("run",), "mode is ddp, not ps"),
        (
            spec(run={"ps": {"replicas": 1, "staleness": 3}}),
            ("run", "ps"),
            "ps.consistency is sync, not ssp",
        ),
        (spec(run={"ps": {"consistency": "async"}}), ("run", "ps"), "ps.replicas is 0"),
        (spec(run={"ps": {"replicas": 1, "consistency": "bsp"}}), ("run", "ps", "consistency"), ""),
        (spec(run={"mode": "single", "workers": {"replicas": 2}}), ("run",), "runs one worker"),
        (spec(run={"workers": {"replicas": 2, "min": 3}}), ("run",), "workers.min 3 is above"),
        (spec(run={"workers": {"replicas": 2, "max": 1}}), ("run",), "workers.max 1 is below"),
        (spec(run={"horovod": {"controller": "mpi"}}), ("run",), "mode is auto, not horovod"),
        (
            spec(run={"mode": "horovod", "comm": "shm"}),
            ("run",),
            "comm is shm but mode is horovod",
        ),
        (spec(run={"mode": "magic"}), ("run", "mode"), "'auto'"),
        (spec(hparams=[{"name": "a", "value": "1"}] * 2), (), "hparams holds a more than once"),
        (spec(hparams=[{"name": "a", "value": 1}]), ("hparams", 0, "value"), "string"),
        (spec(dataset={"name": "Digits", "version": 1}), ("dataset", "name"), "pattern"),
        (spec(dataset={"name": "digits", "version": 0}), ("dataset", "version"), "greater"),
        (spec(checkpoint={"everySteps": 0}), ("checkpoint", "everySteps"), "greater"),
        (spec(checkpoint={"graceSeconds": 0}), ("checkpoint", "graceSeconds"), "greater"),
        (spec(failure={"maxRestarts": -1}), ("failure", "maxRestarts"), "greater"),
        (spec(activeDeadlineSeconds=0), ("activeDeadlineSeconds",), "greater"),
        (spec(description="x" * 1025), ("description",), "at most 1024"),
    ],
)
def test_an_experiment_is_refused_where_it_is_wrong(
    document: dict[str, Any], where: tuple[Any, ...], words: str
) -> None:
    check(experiment.ExperimentSpec, document, where, words)


@pytest.mark.parametrize(
    ("document", "where", "words"),
    [
        (job(labels=["ok"]), ("labels",), "at least 2"),
        (job(labels=["ok", "ok"]), (), "labels holds ok more than once"),
        (job(labels=["ok", " "]), (), "empty name"),
        (job(labels=["ok", "x" * 300]), ("labels", 1), "at most 256"),
        (job(target={"error": "0"}), ("target",), "error is 0"),
        (job(target={"error": "0.5"}), ("target",), "between 0 and 0.5"),
        (job(target={"error": 0.02}), ("target", "error"), "string"),
        (job(target={"error": "nan"}), ("target", "error"), "pattern"),
        (job(target={"confidence": "1"}), ("target",), "0.5 or more and below 1"),
        (job(target={"random": "-3"}), ("target", "random"), "pattern"),
        (job(target={"random": "101%"}), ("target", "random"), "pattern"),
        (job(strategy={"batch": "0"}), ("strategy", "batch"), "pattern"),
        (job(strategy={"batch": "0.0%"}), ("strategy", "batch"), "pattern"),
        (job(strategy={"batch": "500%"}), ("strategy", "batch"), "pattern"),
        (job(budget={"maxHumanLabels": "20 %"}), ("budget", "maxHumanLabels"), "pattern"),
        (job(budget={"maxRounds": 0}), ("budget", "maxRounds"), "greater"),
        (job(strategy={"name": "best"}), ("strategy", "name"), "'auto'"),
        (job(strategy={"lookahead": 2}), ("strategy", "lookahead"), "less"),
        (job(finish={"uncovered": "drop"}), ("finish", "uncovered"), "'people'"),
        (job(output={"version": 1}), ("output", "version"), "greater"),
        (
            job(dataset={"name": "parts", "version": 2}, output={"version": 2}),
            (),
            "is the input version",
        ),
        (job(seed=-1), ("seed",), "greater"),
        (job(task="detection"), ("task",), "'classification'"),
    ],
)
def test_a_labeling_job_is_refused_where_it_is_wrong(
    document: dict[str, Any], where: tuple[Any, ...], words: str
) -> None:
    check(labeling_job.LabelingJobSpec, document, where, words)


def check(
    model: type[meta.Wire], document: dict[str, Any], where: tuple[Any, ...], words: str
) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        model.model_validate(document)
    first = caught.value.errors(include_url=False)[0]
    assert first["loc"] == where
    assert words in first["msg"]


@pytest.mark.parametrize("name", ["a", "a-1", "digits", "a" * 63])
def test_good_names(name: str) -> None:
    assert meta.ObjectMeta(name=name).namespace == "default"


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "1a", "A", "a_b", "a.b", "a" * 64, "a/b", "ä", "a\n"]
)
def test_bad_names(name: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        meta.ObjectMeta(name=name)


@pytest.mark.parametrize(
    ("share", "total", "count"),
    [
        ("20", 100, 20),
        ("200", 100, 100),
        ("0", 100, 0),
        ("5%", 100, 5),
        ("5%", 101, 6),
        ("0%", 100, 0),
        ("100%", 7, 7),
        ("150%", 7, 7),
        ("12.5%", 8, 1),
        ("20%", 1797, 360),
        ("5%", 0, 0),
    ],
)
def test_a_share_of_a_pool_is_rounded_up_to_whole_items(share: str, total: int, count: int) -> None:
    assert labeling_job.count_of(share, total) == count


@given(st.integers(0, 1000), st.integers(0, 5000))
@example(44, 1750)  # 77 exactly, and one more in floating point
def test_a_share_in_tenths_of_a_percent_is_exact(tenths: int, total: int) -> None:
    share = f"{tenths // 10}.{tenths % 10}%"
    assert labeling_job.count_of(share, total) == -(-tenths * total // 1000)


def test_a_document_comes_back_as_it_was_with_its_defaults() -> None:
    first = experiment.Experiment.model_validate(
        {"metadata": {"name": "a"}, "spec": spec(run={"useGpu": True})}
    )
    document = first.document()
    assert document["apiVersion"] == "quintile.dev/v1alpha1"
    assert document["spec"]["run"]["useGpu"] is True
    assert document["spec"]["checkpoint"]["everySteps"] == 500
    assert "status" not in document
    assert experiment.Experiment.model_validate(document) == first


def test_models_are_frozen() -> None:
    made = experiment.Workers()
    with pytest.raises(pydantic.ValidationError):
        made.replicas = 3  # type: ignore[misc]


def test_a_key_reads_as_people_write_it() -> None:
    document = {"kind": "Trial", "metadata": {"name": "a"}}
    assert str(meta.key_of(document)) == "Trial default/a"
