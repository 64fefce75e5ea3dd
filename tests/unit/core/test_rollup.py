"""Decisions about an experiment, given its trial."""

from __future__ import annotations

from typing import Any

import pytest

from quintile.core import conditions, decision, experiment, meta, rollup, search

NOW_S = 1_800_000_000.0


def parent(status: experiment.ExperimentStatus | None = None, **spec: Any) -> experiment.Experiment:
    return experiment.Experiment.model_validate(
        {
            "metadata": {"name": "digits", "uid": "e", "generation": 2},
            "spec": {"estimator": {"builtin": {}}, **spec},
            "status": status,
        }
    )


def stored(
    owner: experiment.Experiment, status: experiment.TrialStatus | None = None
) -> dict[str, meta.Document]:
    (trial,) = search.trials(owner)
    made = trial.model_copy(update={"status": status})
    return {trial.metadata.name: made.document()}


def status(kind: str, **of: Any) -> experiment.TrialStatus:
    entry = conditions.condition(kind, "True", reason="Why", message="because")
    return experiment.TrialStatus(conditions=[entry], **of)


def decide(
    owner: experiment.Experiment, children: dict[str, meta.Document], *, now_s: float = NOW_S
) -> rollup.ExperimentDecision:
    return rollup.decide_experiment(owner, children, now_s=now_s)


def test_a_missing_trial_is_made() -> None:
    made = decide(parent(), {})
    (action,) = made.actions
    assert isinstance(action, decision.ApplyChild)
    assert action.document["metadata"]["name"] == made.status.trials[0]
    assert (made.status.phase, made.status.observed_generation) == ("Pending", 2)


def test_a_trial_that_is_as_wanted_is_left_alone() -> None:
    first = decide(parent(), {})
    settled = decide(parent(first.status), stored(parent()))
    assert (settled.actions, settled.events) == ((), ())
    assert settled.status == first.status
    assert not settled.urgent


def test_suspending_reaches_the_trial() -> None:
    made = decide(parent(suspend=True), stored(parent()))
    (action,) = made.actions
    assert isinstance(action, decision.ApplyChild)
    assert action.document["spec"]["template"]["suspend"] is True


def test_a_trial_that_is_over_is_not_changed_any_more() -> None:
    over = stored(parent(), status("Succeeded"))
    assert decide(parent(suspend=True), over).actions == ()


@pytest.mark.parametrize("phase", ["Running", "Restarting", "Suspended"])
def test_the_state_of_the_trial_is_the_experiments(phase: str) -> None:
    seen = status(
        phase,
        restarts=2,
        mode="ddp",
        start_time="2027-01-15T08:00:00Z",
        progress=experiment.Progress(percent=40, step=4, total_steps=10),
    )
    made = decide(parent(), stored(parent(), seen)).status
    assert (made.phase, made.reason, made.message) == (phase, "Why", "because")
    assert (made.restarts, made.mode, made.progress.percent) == (2, "ddp", 40)
    assert made.completion_time == ""


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Stopped"])
def test_the_end_is_said_once_and_stays(phase: str) -> None:
    children = stored(parent(), status(phase))
    made = decide(parent(), children)
    assert made.status.phase == phase
    assert made.status.completion_time == conditions.timestamp(NOW_S)
    assert [(event.reason, event.type) for event in made.events] == [
        (phase, "Warning" if phase == "Failed" else "Normal")
    ]
    again = decide(parent(made.status), {}, now_s=NOW_S + 60)
    assert (again.status, again.actions, again.events) == (made.status, (), ())


def test_progress_alone_is_not_urgent() -> None:
    first = decide(parent(), stored(parent(), status("Running")))
    later = status("Running", progress=experiment.Progress(step=5, total_steps=10))
    second = decide(parent(first.status), stored(parent(), later))
    assert second.status.progress.step == 5
    assert not second.urgent


def test_a_spec_that_cannot_run_is_refused_for_good() -> None:
    made = decide(parent(run={"workers": {"replicas": 2, "min": 1}, "mode": "mpi"}), {})
    assert (made.status.phase, made.status.reason, made.actions) == ("Failed", "InvalidSpec", ())
    assert "but mode is mpi" in made.status.message


@pytest.mark.parametrize(
    "owners",
    [
        [],
        [{"kind": "Experiment", "name": "digits", "uid": "other"}],
        [{"kind": "Experiment", "name": "digits", "uid": "e", "controller": False}],
    ],
)
def test_a_name_that_another_owner_took_is_said_and_tried_again(owners: list[Any]) -> None:
    children = stored(parent())
    for document in children.values():
        document["metadata"]["ownerReferences"] = owners
    made = decide(parent(), children)
    assert made.actions == ()
    assert made.wake_s == rollup.NAME_TAKEN_RETRY_S
    assert (made.status.phase, made.status.reason) == ("Pending", "NameTaken")


def test_the_controller_is_found_among_owners() -> None:
    owners = [
        {"kind": "A", "name": "a", "uid": "1", "controller": False},
        {"kind": "B", "name": "b", "uid": "2"},
    ]
    assert rollup.controller_uid({"metadata": {"ownerReferences": owners}}) == "2"
    assert rollup.controller_uid({"metadata": {}}) == ""
