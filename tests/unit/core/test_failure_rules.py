"""Failure rules of an experiment: what is refused, what they decide, and what people read."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from quintile.core import (
    conditions,
    crd_rules,
    experiment,
    facts,
    failure_hints,
    launch,
    reconcile,
    runplan,
    topology,
)

NOW_S = 1_800_000_000.0


def trial(status: experiment.TrialStatus | None = None, **failure: Any) -> experiment.Trial:
    return experiment.Trial.model_validate(
        {
            "metadata": {"name": "digits-t0-x", "uid": "u", "generation": 1},
            "spec": {
                "experiment": "digits",
                "experimentUid": "e",
                "template": {"estimator": {"builtin": {}}, "failure": failure},
            },
            "status": status,
        }
    )


def rank(**of: Any) -> facts.RankFact:
    given = {"exit_code": 3, "reason": "UserError", "first_error": "no", "step": -1, **of}
    return facts.RankFact(rank=0, state="exited", **given)


def decide(before: experiment.Trial, **of: Any) -> reconcile.TrialDecision:
    known = facts.TrialFacts(uid="u", attempt=1, generation=1, updated_s=NOW_S, **of)
    seen = runplan.ObservedReplica("u", 1, "a1-0", "worker", 0, "running", exit_code=None)
    return reconcile.decide_trial(before, known, [seen], now_s=NOW_S)


def begun(**failure: Any) -> experiment.Trial:
    made = reconcile.decide_trial(trial(**failure), facts.TrialFacts(uid="u"), [], now_s=NOW_S)
    return trial(made.status, **failure)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"action": "Fail"}, "needs exitCodes, or a logPattern"),
        ({"action": "Fail", "logPattern": " * "}, "needs exitCodes, or a logPattern"),
        ({"action": "Fail", "exitCodes": []}, "needs exitCodes, or a logPattern"),
        ({"action": "Fail", "exitCodes": [0]}, "greater than or equal to 1"),
        ({"action": "Fail", "exitCodes": [256]}, "less than or equal to 255"),
        ({"action": "Ignore", "exitCodes": [3]}, "'Restart', 'RestartUncounted' or 'Fail'"),
        ({"exitCodes": [3]}, "required"),
        ({"action": "Fail", "logPattern": "x" * 257}, "at most 256"),
        ({"action": "Fail", "exitCodes": list(range(1, 67))}, "at most 64"),
    ],
)
def test_a_rule_is_refused_where_it_is_wrong(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=words):
        experiment.FailureSpec.model_validate({"rules": [rule]})


@pytest.mark.parametrize(
    "rule",
    [
        {"action": "Restart", "exitCodes": [3, 137]},
        {"action": "RestartUncounted", "logPattern": "NCCL*timeout"},
        {"action": "Fail", "exitCodes": [1], "logPattern": "no licence"},
    ],
)
def test_good_rules_travel_to_the_agents_as_they_are(rule: dict[str, Any]) -> None:
    made = trial(rules=[rule])
    assert rule.items() <= made.spec.template.failure.rules[0].document().items()
    assert '"failureRules":[{"action":' in launch.program(made)


def test_a_program_without_rules_does_not_speak_of_them() -> None:
    shape = topology.resolve(trial().spec.template.run)
    site = launch.Site(api_url="http://api.example.com", python="python")
    told = launch.environment(trial(), shape, attempt=1, site=site)
    assert "failureRules" not in told["QUINTILE_PROGRAM"]


def test_the_api_server_checks_the_same() -> None:
    [rule] = crd_rules.of(experiment.FailureRule)
    assert "self.exitCodes.size() > 0" in rule.rule
    assert "self.logPattern.matches('[^* ]')" in rule.rule


@pytest.mark.parametrize(
    ("action", "phase", "restarts"),
    [("", "Failed", 0), ("Fail", "Failed", 0), ("Restart", None, 1), ("RestartUncounted", None, 0)],
)
def test_a_rule_decides_about_the_attempt(action: str, phase: str | None, restarts: int) -> None:
    made = decide(begun(), state="failed", failure=rank(action=action))
    assert made.status.phase == (phase or "Restarting")
    assert (made.status.attempt, made.status.restarts) == (1 if phase else 2, restarts)


def test_a_rule_fails_what_would_be_tried_again() -> None:
    died = {"exit_code": 137, "reason": "Killed", "step": 40}
    assert decide(begun(), state="failed", failure=rank(**died)).status.phase == "Restarting"
    ruled = decide(begun(), state="failed", failure=rank(**died, action="Fail"))
    assert ruled.status.phase == "Failed"


def test_a_failure_says_what_to_do() -> None:
    made = decide(begun(), state="failed", failure=rank())
    assert made.status.message == (
        "worker rank 0 exited with code 3 (UserError): no. "
        "Hint: the log of the rank has the whole traceback."
    )
    assert all(hint == hint.strip(". ") for hint in failure_hints.HINTS.values())


def test_a_hint_is_not_said_twice() -> None:
    failure = experiment.LastFailure(reason="Diverged")
    said = "the loss is nan at step 1; lower learning_rate, or set clip_norm"
    assert failure_hints.with_hint(said, failure) == said


def test_progressing_is_unknown_until_a_step_is_told() -> None:
    silent = rank(exit_code=None, reason="", first_error="")
    made = decide(begun(), state="running", ranks=(silent,))
    found = conditions.find(made.status.conditions, "Progressing")
    assert found is not None
    assert (found.status, found.reason) == ("Unknown", "NoStepsTold")
    moving = decide(trial(made.status), state="running", ranks=(rank(exit_code=None, step=0),))
    found = conditions.find(moving.status.conditions, "Progressing")
    assert found is not None
    assert (found.status, found.reason) == ("True", "StepsFinished")


def test_after_a_stall_progressing_is_false_until_a_step_is_told() -> None:
    cause = rank(exit_code=None, reason="Stalled", first_error="rank 0 is late", step=7)
    waiting = rank(exit_code=None, reason="", first_error="")
    made = decide(begun(), state="forming", failure=cause, ranks=(waiting,))
    found = conditions.find(made.status.conditions, "Progressing")
    assert found is not None
    assert (found.status, found.reason, found.message) == ("False", "Stalled", "rank 0 is late")
    moving = rank(exit_code=None, step=8)
    again = decide(trial(made.status), state="running", failure=cause, ranks=(moving,))
    assert conditions.is_true(again.status.conditions, "Progressing")
