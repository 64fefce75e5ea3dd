"""Elastic runs: what a loss means, which replicas are missing, what is told of a changed size."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintile.core import (
    conditions,
    decision,
    elastic,
    experiment,
    facts,
    meta,
    reconcile,
    rollup,
    runplan,
    search,
    trial_status,
    verdict,
)

NOW_S = 1_800_000_000.0


def template(replicas: int = 3, least: int = 2, most: int = 4, **of: Any) -> dict[str, Any]:
    workers = {"replicas": replicas, "min": least, "max": most}
    return {"estimator": {"builtin": {}}, "run": {"workers": workers}, **of}


def spec(*of: int) -> experiment.ExperimentSpec:
    return experiment.ExperimentSpec.model_validate(template(*of))


def known(state: str = "running", **of: Any) -> facts.TrialFacts:
    fields = {"attempt": 1, "generation": 1, "updated_s": NOW_S, "workers": 3, **of}
    return facts.TrialFacts(uid="u", state=state, **fields)


def replica(index: int, state: runplan.ReplicaState = "running", code: int | None = None) -> Any:
    name = f"t-a1-worker-{index}"
    return runplan.ObservedReplica("u", 1, name, "worker", index, state, exit_code=code)


def judge(
    replicas: list[Any], found: facts.TrialFacts | None = None, of: Any = None
) -> verdict.Verdict:
    return verdict.judge(of or spec(), found or known(), replicas, attempt=1, now_s=NOW_S)


def trial(status: experiment.TrialStatus, *of: int) -> experiment.Trial:
    return experiment.Trial.model_validate(
        {
            "metadata": {"name": "digits-t0-x", "uid": "u", "generation": 1},
            "spec": {"experiment": "digits", "experimentUid": "e", "template": template(*of)},
            "status": status,
        }
    )


@pytest.mark.parametrize(
    ("replicas", "outcome"),
    [
        ([replica(0), replica(1), replica(2, "lost")], "none"),
        ([replica(0, "lost"), replica(1), replica(2)], "none"),
        ([replica(0), replica(1), replica(2, "exited", 75)], "none"),
        ([replica(0), replica(1), replica(2, "exited", 70)], "none"),
        ([replica(0), replica(1), replica(2, "exited", 137)], "none"),
        ([replica(0), replica(1, "lost"), replica(2, "lost")], "restart"),
        ([replica(0), replica(1, "exited", 75), replica(2, "exited", 75)], "preempted"),
        ([replica(0), replica(1), replica(2, "exited", 76)], "restart"),
        ([replica(0), replica(1), replica(2), replica(3, "lost")], "none"),
        ([replica(0, "exited", 75), replica(1, "exited", 75), replica(3)], "preempted"),
    ],
)
def test_a_loss_is_borne_while_enough_are_left(replicas: list[Any], outcome: str) -> None:
    assert judge(replicas).outcome == outcome


def test_user_code_that_fails_ends_an_elastic_run_too() -> None:
    rank = facts.RankFact(1, "exited", 1, "UserError", "ValueError: bad", -1)
    assert judge([replica(0), replica(1)], known("failed", failure=rank)).outcome == "failed"


def test_without_min_nobody_may_be_missing() -> None:
    only_max = experiment.ExperimentSpec.model_validate(
        {"estimator": {"builtin": {}}, "run": {"workers": {"replicas": 2, "max": 4}}}
    )
    assert (only_max.run.workers.least, only_max.run.workers.most) == (2, 4)
    assert judge([replica(0), replica(1, "lost")], of=only_max).outcome == "restart"
    assert experiment.Workers(replicas=3, min=1).most == 3


@pytest.mark.parametrize(
    ("replicas", "whole"),
    [
        ([replica(0), replica(1), replica(2)], True),
        ([replica(0), replica(1)], False),
        ([replica(0), replica(1), replica(2, "lost")], False),
        ([replica(0), replica(1), replica(2, "exited", 0)], True),
        ([replica(0), replica(1), replica(2), replica(3)], False),
        ([replica(0), replica(1), replica(2), replica(3, "exited", 75)], True),
    ],
)
def test_what_is_missing_or_too_many_is_put_right(replicas: list[Any], whole: bool) -> None:
    assert elastic.is_whole(spec(), replicas) is whole
    before = experiment.TrialStatus(attempt=1, workers=3)
    made = reconcile.decide_trial(trial(before), known(), replicas, now_s=NOW_S)
    assert made.actions == (() if whole else (decision.EnsureAttempt(1),))
    if any(entry.state == "lost" for entry in replicas):
        assert made.wake_s == elastic.REPAIR_POLL_S


@pytest.mark.parametrize(
    ("before", "now", "wanted", "reason", "kind"),
    [
        (3, 2, 3, "Shrunk", "Warning"),
        (2, 3, 3, "Resized", "Normal"),
        (2, 4, 4, "Resized", "Normal"),
        (4, 2, 2, "Resized", "Normal"),
        (4, 3, 2, "Resized", "Normal"),
    ],
)
def test_people_see_from_what_to_what_and_why(
    before: int, now: int, wanted: int, reason: str, kind: str
) -> None:
    status = experiment.TrialStatus(attempt=1, workers=before)
    found = known(workers=now, why="worker-2 was lost", generation=2)
    seen = [replica(index) for index in range(wanted)]
    made = reconcile.decide_trial(trial(status, wanted), found, seen, now_s=NOW_S)
    message = f"{before} -> {now} workers: worker-2 was lost"
    assert made.status.workers == now
    [event] = [event for event in made.events if event.reason in ("Shrunk", "Resized")]
    assert (event.reason, event.message, event.type) == (reason, message, kind)
    entry = conditions.find(made.status.conditions, "Resized")
    assert entry is not None
    assert (entry.reason, entry.message) == (reason, message)
    again = reconcile.decide_trial(trial(made.status, wanted), found, seen, now_s=NOW_S)
    assert not [event for event in again.events if event.reason in ("Shrunk", "Resized")]


def test_a_run_that_changes_its_size_says_so_and_names_no_failure() -> None:
    status = experiment.TrialStatus(attempt=1, workers=2)
    found = known("draining", workers=0, why="worker-2 comes in")
    seen = [replica(index) for index in range(3)]
    made = reconcile.decide_trial(trial(status), found, seen, now_s=NOW_S)
    assert (made.status.phase, made.status.reason) == ("Restarting", "Resizing")
    assert made.status.message == "worker-2 comes in"
    assert made.status.last_failure is None


def test_the_size_reaches_the_trial_and_the_global_batch_stays() -> None:
    def parent(replicas: int) -> experiment.Experiment:
        metadata = meta.ObjectMeta(name="digits", uid="e")
        given = experiment.ExperimentSpec.model_validate(template(replicas, 1, 4))
        return experiment.Experiment(metadata=metadata, spec=given)

    [first] = search.trials(parent(2))
    assert first.spec.batch_workers == 2
    stored = {first.metadata.name: first.document()}
    [action] = rollup.decide_experiment(parent(4), stored, now_s=NOW_S).actions
    assert isinstance(action, decision.ApplyChild)
    changed = experiment.Trial.model_validate(action.document)
    assert changed.spec.template.run.workers.replicas == 4
    assert changed.spec.batch_workers == 2
    assert not rollup.decide_experiment(
        parent(4), {first.metadata.name: action.document}, now_s=0
    ).actions


STATES = st.sampled_from([("running", None), ("pending", None), ("lost", None)])
ENDS = st.sampled_from([("exited", code) for code in (0, 70, 75, 77, 137)])


@given(
    states=st.lists(STATES | ENDS, min_size=1, max_size=6),
    replicas=st.integers(1, 6),
    least=st.integers(1, 6),
)
def test_an_elastic_run_goes_on_exactly_while_enough_members_live(
    states: list[Any], replicas: int, least: int
) -> None:
    least = min(least, replicas)
    seen = [replica(index, state, code) for index, (state, code) in enumerate(states)]
    given_spec = spec(replicas, least, 6)
    alive = sum(state in ("running", "pending") for state, _ in states[:replicas])
    word = judge(seen, of=given_spec)
    if alive >= least:
        assert word.outcome == "none"
    elif any(state == "lost" for state, _ in states[:replicas]):
        assert word.outcome == "restart"
    draft = elastic.size(
        trial_status.Draft({}), experiment.TrialStatus(), known(), given_spec.run.workers
    )
    assert draft.fields == {"workers": 3}
