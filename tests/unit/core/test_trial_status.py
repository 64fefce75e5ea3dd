"""The status of a trial as it is shown: progress, metrics, time left, phase."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintile.core import conditions, experiment, facts, meta, trial_status

NOW_S = 1_800_000_000.0


def known(**of: Any) -> facts.TrialFacts:
    return facts.TrialFacts(uid="u", attempt=1, **of)


@pytest.mark.parametrize(
    ("step", "total", "percent", "eta"),
    [
        (-1, 0, 0, None),
        (0, 100, 0, None),
        (25, 100, 25, 300),
        (99, 100, 99, 1),
        (100, 100, 100, None),
        (130, 100, 100, None),
        (50, 0, 0, None),
    ],
)
def test_progress_and_the_time_that_is_left(
    step: int, total: int, percent: int, eta: int | None
) -> None:
    found = known(
        step=step,
        total_steps=total,
        metrics={"loss": 1.0},
        started_s=NOW_S - 100,
        updated_s=NOW_S,
    )
    made = trial_status.progress(experiment.Progress(), found)
    assert (made.percent, made.eta_seconds) == (percent, eta)
    assert made.updated_time == conditions.timestamp(NOW_S)


def test_silence_keeps_what_was_known() -> None:
    before = experiment.Progress(step=5, total_steps=10, percent=50)
    assert trial_status.progress(before, known()) == before
    reference = experiment.CheckpointRef(key="k", step=5)
    assert trial_status.checkpoint(reference, known()) == reference


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=9), st.floats(), max_size=40))
def test_metrics_are_few_sorted_short_and_numbers(values: dict[str, float]) -> None:
    shown = trial_status.metric_texts(values)
    assert len(shown) <= trial_status.METRIC_LIMIT
    assert [entry.name for entry in shown] == sorted(entry.name for entry in shown)
    assert all(float(entry.value) == float(entry.value) for entry in shown)
    assert not any("inf" in entry.value or "nan" in entry.value for entry in shown)


@pytest.mark.parametrize(
    ("types", "phase"),
    [
        ([], "Pending"),
        (["Running"], "Running"),
        (["Running", "Restarting"], "Restarting"),
        (["Running", "Suspended"], "Suspended"),
        (["Running", "Stopped"], "Stopped"),
        (["Stopped", "Failed"], "Failed"),
        (["Failed", "Succeeded"], "Succeeded"),
    ],
)
def test_the_phase_of_conditions(types: list[str], phase: str) -> None:
    draft = trial_status.Draft(fields={})
    for kind in types:
        draft = draft.mark(kind, "True", reason=f"Why{kind}", message="m")
    made = trial_status.finish(experiment.TrialStatus(), draft, generation=3, now_s=NOW_S)
    assert made.phase == phase
    assert made.observed_generation == 3
    assert all(entry.observed_generation == 3 for entry in made.conditions)
    assert bool(made.completion_time) is (phase in experiment.TERMINAL)
    assert made.reason == (f"Why{phase}" if types else "")


def test_a_completion_time_never_moves() -> None:
    draft = trial_status.Draft(fields={}).mark("Failed", "True", reason="A")
    first = trial_status.finish(experiment.TrialStatus(), draft, generation=1, now_s=NOW_S)
    second = trial_status.finish(first, draft, generation=1, now_s=NOW_S + 50)
    assert second == first


def test_events_carry_place_and_kind() -> None:
    trial = experiment.Trial(
        metadata=meta.ObjectMeta(name="t", namespace="n", uid="u"),
        spec=experiment.TrialSpec(
            experiment="e",
            experiment_uid="x",
            template=experiment.ExperimentSpec(
                estimator=experiment.EstimatorSpec(builtin=experiment.Builtin())
            ),
        ),
    )
    draft = trial_status.Draft(fields={}).note("Warning", "Failed", "m" * 2000)
    (event,) = trial_status.events(trial, draft)
    assert (event.kind, event.namespace, event.name, event.uid) == ("Trial", "n", "t", "u")
    assert (event.type, len(event.message)) == ("Warning", conditions.MESSAGE_LIMIT)


@pytest.mark.parametrize(
    ("estimator", "has_place", "accounting"),
    [
        ({"builtin": {"model": "resnet8"}}, False, "exact"),
        ({"functions": {"bundle": "0" * 64}}, False, "exact"),
        ({"script": {"bundle": "0" * 64, "entry": "train.py"}}, False, "unmanaged"),
        ({"script": {"bundle": "0" * 64, "entry": "train.py"}}, True, "exact"),
    ],
)
def test_what_is_known_of_the_samples(
    estimator: dict[str, Any], has_place: bool, accounting: str
) -> None:
    template = experiment.ExperimentSpec.model_validate({"estimator": estimator})
    saved = facts.CheckpointFact("ckpt/x", 5, 0.0, has_place=has_place)
    known = facts.TrialFacts(uid="u", checkpoint=saved)
    assert trial_status.sample_accounting(template, known) == accounting
