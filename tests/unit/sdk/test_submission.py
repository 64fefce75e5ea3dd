"""From what a user gives to the spec of an Experiment."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from quintile.core import errors, labeling_job
from quintile.sdk import (
    Estimator,
    HParams,
    LabelingConfig,
    RunConfig,
    bundles,
    labeling,
    run_calls,
    submission,
)


def wanted(**changes: Any) -> submission.Wanted:
    base = submission.Wanted(
        estimator=Estimator.builtin("resnet18"),
        hparams=HParams(iterations=10),
        config=RunConfig(),
        dataset={"name": "digits", "version": 1},
    )
    return dataclasses.replace(base, **changes)


class TestSpec:
    def test_a_builtin_model(self) -> None:
        spec = submission.spec_of(wanted(), None)
        assert spec["estimator"]["builtin"] == {"task": "classification", "model": "resnet18"}
        parsed = run_calls.check(spec)
        assert parsed.run.workers.replicas == 1
        assert not parsed.run.workers.elastic
        assert parsed.dataset is not None

    def test_every_field_of_the_run_config_arrives(self) -> None:
        config = RunConfig(
            no_of_workers=3,
            min_workers=2,
            max_workers=6,
            summary_save_frequency=7,
            run_eval=False,
            use_gpu=True,
            checkpoint_frequency_in_steps=11,
            mode="ddp",
            deterministic=True,
            cpu="500m",
            memory="1Gi",
            max_restarts=5,
            progress_timeout_s=60,
            start_timeout_s=90,
            env={"A": "b"},
            queue="team",
            priority="high",
            runtime="gpu",
            image="registry.example.com/team/trainer:1",
            secrets={"tokens": "/secrets/tokens", "login": None},
            pod_overrides={"labels": [{"name": "team", "value": "vision"}]},
        )
        spec = run_calls.check(submission.spec_of(wanted(config=config), None))
        run = spec.run
        assert (run.workers.replicas, run.mode, run.use_gpu) == (3, "ddp", True)
        assert (run.workers.min, run.workers.max, run.workers.elastic) == (2, 6, True)
        assert (run.run_eval, run.deterministic) == (False, True)
        assert (run.resources.cpu, run.resources.memory) == ("500m", "1Gi")
        told = spec.telemetry
        assert (told.progress_timeout_seconds, told.start_timeout_seconds) == (60, 90)
        assert told.summary_every_steps == 7
        assert spec.checkpoint.every_steps == 11
        assert spec.failure.max_restarts == 5
        assert [(one.name, one.value) for one in spec.estimator.env] == [("A", "b")]
        assert (spec.queue, spec.priority, spec.runtime) == ("team", "high", "gpu")
        assert spec.image == "registry.example.com/team/trainer:1"
        secrets = [(secret.name, secret.mount_path) for secret in spec.secret_refs]
        assert secrets == [("tokens", "/secrets/tokens"), ("login", None)]
        assert spec.pod_overrides is not None
        assert spec.pod_overrides.labels[0].value == "vision"

    def test_a_script(self) -> None:
        bundle = bundles.pack({"train.py": b""}, {"kind": "script"}, entry="train.py")
        estimator = Estimator.script("train.py", args=["--lr", 0.1])
        spec = submission.spec_of(wanted(estimator=estimator, dataset=None), bundle)
        assert spec["estimator"]["script"] == {
            "bundle": bundle.sha256,
            "entry": "train.py",
            "args": ["--lr", "0.1"],
        }

    def test_a_description_of_the_estimator(self) -> None:
        estimator = Estimator.create("mine", "Hello", Estimator.builtin())
        spec = submission.spec_of(wanted(estimator=estimator), None)
        assert spec["description"] == "Hello"

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"dataset": None}, "has no data"),
            ({"input_fn": print}, "functions only"),
            ({"config": RunConfig(mode="ps")}, "mode is ps but no_of_ps is 0"),
            ({"config": RunConfig(no_of_ps=2, mode="ddp")}, "no_of_ps is 2 but mode is ddp"),
            ({"config": RunConfig(consistency="async")}, "there are no parameter servers"),
            ({"config": RunConfig(no_of_ps=1, staleness=3)}, "but consistency is sync"),
            ({"config": RunConfig(no_of_ps=-1)}, "no_of_ps is -1; expected"),
            ({"config": RunConfig(no_of_workers=0)}, "no_of_workers is 0; expected"),
            ({"config": RunConfig(summary_save_frequency=0)}, "summary_save_frequency is 0"),
            ({"config": RunConfig(no_of_workers=True)}, "no_of_workers is True"),
            ({"hparams": HParams(extra={"a": [1]})}, "Hyperparameter a is a list"),  # type: ignore[dict-item]
            ({"hparams": HParams(seed=1, extra={"seed": 2})}, "seed twice"),
        ],
    )
    def test_what_cannot_work(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(errors.InvalidSpec, match=message):
            submission.spec_of(wanted(**changes), None)

    @pytest.mark.parametrize(
        ("spec", "field"),
        [
            ({"estimator": {"builtin": {"model": "vgg"}}}, "spec.estimator.builtin.model"),
            ({"estimator": {"builtin": {}}, "colour": 1}, "spec.colour"),
            ({}, "spec.estimator"),
            ({"estimator": {"builtin": {}}, "hparams": [{"name": "a"}]}, "spec.hparams[0].value"),
        ],
    )
    def test_the_wire_model_names_the_field(self, spec: dict[str, Any], field: str) -> None:
        with pytest.raises(errors.InvalidSpec) as caught:
            run_calls.check(spec)
        assert caught.value.field == field


def test_hyperparameters_as_text() -> None:
    found = HParams(iterations=50_000, learning_rate=1e-3, extra={"deep": True, "name": "a"})
    assert found.texts() == {
        "iterations": "50000",
        "learning_rate": "0.001",
        "deep": "true",
        "name": "a",
    }


@pytest.mark.parametrize("kind", [HParams, RunConfig, Estimator])
def test_what_users_hold_is_frozen(kind: type) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("digits", submission.DataReference("digits")),
        ("digits:2", submission.DataReference("digits", 2)),
        ("digits:2/holdout", submission.DataReference("digits", 2, "holdout")),
        ("digits/holdout", submission.DataReference("digits", 0, "holdout")),
    ],
)
def test_references(text: str, expected: submission.DataReference) -> None:
    assert submission.parse_reference(text) == expected


@pytest.mark.parametrize("text", ["", "Digits", "digits:x", "digits:1:2", "a/b/c", "digits:-1"])
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(errors.InvalidSpec, match="does not name a dataset version"):
        submission.parse_reference(text)


@pytest.mark.parametrize("name", ["NewDetectionEstimator", "NewSegmentationEstimator"])
def test_other_tasks_come_later(name: str) -> None:
    with pytest.raises(errors.InvalidSpec, match="not in this release"):
        getattr(Estimator, name)(print)


def test_a_model_function_must_be_one() -> None:
    with pytest.raises(errors.InvalidSpec, match="model_fn is a int"):
        Estimator.NewClassificationEstimator(model_fn=3)  # type: ignore[arg-type]


def test_a_labeling_config_is_a_spec() -> None:
    config = LabelingConfig(error=0.05, random=220, max_chosen=60, lookahead=0, seed=4)
    spec = labeling.spec_of({"name": "digits", "version": 1}, ["a", "b"], config)
    parsed = labeling_job.LabelingJobSpec.model_validate(spec)
    assert (parsed.target.error, parsed.target.random) == ("0.05", "220")
    assert (parsed.budget.max_chosen, parsed.strategy.lookahead, parsed.seed) == ("60", 0, 4)
