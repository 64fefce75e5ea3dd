"""The life of a labeling job: budget, what comes next, and which rounds must run."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintile.core import (
    conditions,
    cycle,
    decision,
    errors,
    experiment,
    facts,
    labeling_job,
    meta,
    rounds,
)

NOW_S = 1_800_000_000.0
LIMITS = cycle.Limits(decisions=100, random=20, chosen=60, batch=20)
SHA = "0" * 64


def spec(**of: Any) -> labeling_job.LabelingJobSpec:
    return labeling_job.LabelingJobSpec.model_validate(
        {"dataset": {"name": "parts", "version": 1}, "labels": ["ok", "bad"], **of}
    )


def job(
    status: labeling_job.LabelingJobStatus | None = None, generation: int = 1, **of: Any
) -> labeling_job.LabelingJob:
    return labeling_job.LabelingJob(
        metadata=meta.ObjectMeta(name="parts", uid="j", generation=generation),
        spec=spec(**of),
        status=status,
    )


def fact(number: int, state: facts.RoundState, step: facts.RoundStep = "learn") -> facts.RoundFact:
    return facts.RoundFact(number, step, state, f"rounds/j/{number}/manifest.json", SHA)


EMBEDDED = fact(0, "ingested", "embed")


@pytest.mark.parametrize(
    ("of", "items", "random", "expected"),
    [
        ({}, 1000, 100, (200, 100, 100, 50)),
        ({"budget": {"maxHumanLabels": "300"}}, 1000, 100, (300, 100, 200, 50)),
        ({"budget": {"maxHumanLabels": "300", "maxChosen": "60"}}, 1000, 100, (300, 100, 60, 50)),
        ({"strategy": {"batch": "20"}}, 1000, 100, (200, 100, 100, 20)),
        ({"strategy": {"batch": "0.01%"}}, 1000, 100, (200, 100, 100, 1)),
        ({"review": {"overlap": "10%"}}, 1000, 100, (200, 100, 81, 50)),
        ({"budget": {"maxHumanLabels": "100%"}}, 50, 40, (50, 40, 10, 3)),
        ({"budget": {"maxHumanLabels": "100"}}, 1000, 100, (100, 100, 0, 50)),
    ],
)
def test_a_budget_in_whole_items(
    of: dict[str, Any], items: int, random: int, expected: tuple[int, int, int, int]
) -> None:
    made = cycle.limits(spec(**of), items=items, random_items=random)
    assert dataclasses.astuple(made) == expected


def test_a_budget_below_the_certificate_is_refused_with_the_number_it_takes() -> None:
    with pytest.raises(errors.InvalidSpec) as caught:
        cycle.limits(
            spec(budget={"maxHumanLabels": "100"}, review={"overlap": "10%"}),
            items=1000,
            random_items=100,
        )
    assert caught.value.field == "spec.budget.maxHumanLabels"
    assert "110 or more" in caught.value.hint


def progress(*found: facts.RoundFact, **of: Any) -> cycle.Progress:
    return cycle.Progress(limits=LIMITS, rounds=found, **of)


STEPS: dict[str, tuple[cycle.Progress, dict[str, Any], tuple[Any, ...]]] = {
    "admitted": (progress(), {}, ("close", 0, "embed", "Admitted")),
    "embedding": (progress(fact(0, "closed", "embed")), {}, ("wait", 0, "embed", "RoundRunning")),
    "embedded": (progress(EMBEDDED), {}, ("open", 1, "learn", "NextBatch")),
    "collecting": (
        progress(EMBEDDED, fact(1, "collecting"), batch_left=3),
        {},
        ("wait", 1, "learn", "Collecting"),
    ),
    "a batch is settled": (
        progress(EMBEDDED, fact(1, "collecting"), chosen_settled=20),
        {},
        ("close", 1, "learn", "BatchSettled"),
    ),
    "learning": (
        progress(EMBEDDED, fact(1, "closed"), chosen_settled=20),
        {},
        ("wait", 1, "learn", "RoundRunning"),
    ),
    "learned": (
        progress(EMBEDDED, fact(1, "ingested"), chosen_settled=20),
        {},
        ("open", 2, "learn", "NextBatch"),
    ),
    "somebody works in lockstep": (
        progress(EMBEDDED, fact(1, "collecting"), leased=1),
        {"strategy": {"lookahead": 0}},
        ("wait", 1, "learn", "Collecting"),
    ),
    "somebody works with lookahead": (
        progress(EMBEDDED, fact(1, "collecting"), leased=1),
        {},
        ("close", 1, "learn", "BatchSettled"),
    ),
    "all chosen are settled, R is not": (
        progress(EMBEDDED, fact(3, "collecting"), chosen_settled=60, random_settled=5),
        {},
        ("wait", 3, "learn", "RandomLeft"),
    ),
    "all chosen and R are settled": (
        progress(EMBEDDED, fact(3, "collecting"), chosen_settled=60, random_settled=20),
        {},
        ("close", 3, "finalise", "ChosenBudgetSpent"),
    ),
    "the budget is spent before R": (
        progress(EMBEDDED, fact(2, "collecting"), decisions=100, batch_left=4),
        {},
        ("close", 2, "finalise", "BudgetSpent"),
    ),
    "the engine stops": (
        progress(EMBEDDED, fact(1, "ingested"), stop="Converged", random_settled=20),
        {},
        ("close", 2, "finalise", "Converged"),
    ),
    "the engine stops, but chosen items were asked for by number": (
        progress(EMBEDDED, fact(1, "ingested"), stop="Converged", random_settled=20),
        {"budget": {"maxChosen": "30"}},
        ("open", 2, "learn", "NextBatch"),
    ),
    "rounds are used up": (
        progress(EMBEDDED, fact(2, "ingested"), random_settled=20, chosen_settled=40),
        {"budget": {"maxRounds": 2}},
        ("close", 3, "finalise", "MaxRoundsReached"),
    ),
    "nothing is left to choose": (
        progress(EMBEDDED, fact(1, "ingested"), selectable=0, random_settled=20),
        {},
        ("close", 2, "finalise", "PoolExhausted"),
    ),
    "finalising": (
        progress(EMBEDDED, fact(2, "closed", "finalise")),
        {},
        ("wait", 2, "finalise", "RoundRunning"),
    ),
    "uncovered rows for people": (
        progress(fact(2, "ingested", "finalise"), uncovered_left=4, decisions=80),
        {},
        ("cover", 2, None, "Uncovered"),
    ),
    "uncovered rows without a budget": (
        progress(fact(2, "ingested", "finalise"), uncovered_left=4, decisions=100),
        {},
        ("export", 2, None, "Finished"),
    ),
    "uncovered rows are left": (
        progress(fact(2, "ingested", "finalise"), uncovered_left=4),
        {"finish": {"uncovered": "leave"}},
        ("export", 2, None, "Finished"),
    ),
    "everything is covered": (
        progress(fact(2, "ingested", "finalise")),
        {},
        ("export", 2, None, "Finished"),
    ),
    "exported": (
        progress(fact(2, "ingested", "finalise"), exported=True, uncovered_left=4),
        {},
        ("done", 2, None, "Exported"),
    ),
}


@pytest.mark.parametrize(("found", "of", "expected"), STEPS.values(), ids=STEPS)
def test_what_comes_next(
    found: cycle.Progress, of: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    step = cycle.next_step(spec(**of), found)
    assert (step.kind, step.number, step.step, step.reason) == expected
    assert step.message


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (progress(), "importing"),
        (progress(fact(0, "closed", "embed")), "labeling"),
        (progress(EMBEDDED), "labeling"),
        (progress(fact(2, "closed", "finalise")), "finalising"),
        (progress(fact(2, "ingested", "finalise"), uncovered_left=1), "covering"),
        (progress(fact(2, "ingested", "finalise")), "exporting"),
        (progress(fact(2, "ingested", "finalise"), exported=True), "exported"),
    ],
)
def test_the_word_for_people(found: cycle.Progress, state: str) -> None:
    assert cycle.state_of(spec(), found) == state


@dataclasses.dataclass
class Service:
    """A labeling service in numbers: it does what ``next_step`` says, people answer at random."""

    spec: labeling_job.LabelingJobSpec
    items: int
    limits: cycle.Limits
    rounds: list[facts.RoundFact] = dataclasses.field(default_factory=list)
    random_settled: int = 0
    chosen_settled: int = 0
    decisions: int = 0
    batch_left: int = 0
    uncovered: int = 0
    exported: bool = False

    def progress(self) -> cycle.Progress:
        return cycle.Progress(
            limits=self.limits,
            rounds=tuple(self.rounds),
            random_settled=self.random_settled,
            chosen_settled=self.chosen_settled,
            decisions=self.decisions,
            batch_left=self.batch_left,
            selectable=self.items - self.limits.random - self.chosen_settled,
            uncovered_left=self.uncovered,
            exported=self.exported,
        )

    def answer(self, what: str) -> None:
        if self.decisions >= self.limits.decisions:
            return
        if what == "random" and self.random_settled < self.limits.random:
            self.random_settled += 1
            self.decisions += 1
        elif what == "chosen" and self.batch_left > 0:
            self.batch_left -= 1
            self.chosen_settled += 1
            self.decisions += 1
        elif what == "cover" and self.uncovered > 0 and self.rounds[-1].state == "ingested":
            self.uncovered -= 1
            self.decisions += 1

    def step(self) -> str:
        found = cycle.next_step(self.spec, self.progress())
        if found.kind == "open":
            self.batch_left = cycle.batch_size(self.progress())
            assert self.batch_left > 0
            self.rounds.append(fact(found.number, "collecting"))
        elif found.kind == "close":
            assert found.step is not None
            if not self.rounds or self.rounds[-1].number != found.number:
                self.rounds.append(fact(found.number, "collecting"))
            self.batch_left = 0
            self.rounds[-1] = fact(found.number, "closed", found.step)
        elif found.kind == "wait" and self.rounds[-1].state == "closed":
            self.rounds[-1] = dataclasses.replace(self.rounds[-1], state="ingested")
            if self.rounds[-1].step == "finalise":
                self.uncovered = 3
        elif found.kind == "export":
            self.exported = True
        return found.kind


@settings(max_examples=60, deadline=None)
@given(
    items=st.integers(30, 200),
    share=st.integers(20, 60),
    batch=st.integers(1, 30),
    max_rounds=st.integers(1, 8),
    people=st.lists(st.sampled_from(("random", "chosen", "cover")), max_size=60),
)
def test_every_job_comes_to_its_end_within_its_budget(
    items: int, share: int, batch: int, max_rounds: int, people: list[str]
) -> None:
    wanted = spec(
        budget={"maxHumanLabels": f"{share}%", "maxRounds": max_rounds},
        strategy={"batch": str(batch)},
    )
    bounds = cycle.limits(wanted, items=items, random_items=items // 10)
    service = Service(wanted, items, bounds)
    for what in people:
        service.answer(what)
        service.step()
    for _ in range(5000):
        if service.step() == "done":
            break
        for what in ("chosen", "random", "cover"):
            service.answer(what)
    assert service.exported
    assert service.decisions <= bounds.decisions
    assert service.chosen_settled <= bounds.chosen
    numbers = [found.number for found in service.rounds]
    assert numbers == list(range(len(numbers)))
    assert [found.step for found in service.rounds].count("finalise") == 1
    assert service.rounds[-1].step == "finalise"
    assert len([found for found in service.rounds if found.step == "learn"]) <= max_rounds
    settled = service.random_settled == bounds.random
    assert settled or service.decisions >= bounds.decisions


def decide(
    before: labeling_job.LabelingJob,
    known: facts.JobFacts | None,
    stored: dict[str, meta.Document] | None = None,
    **of: Any,
) -> cycle.JobDecision:
    return cycle.decide(before, known, stored or {}, now_s=NOW_S, **of)


def known(*found: facts.RoundFact, **of: Any) -> facts.JobFacts:
    fields = {"state": "labeling", "items": 1000, **of}
    return facts.JobFacts(uid="j", rounds=found, **fields)


def round_of(
    before: labeling_job.LabelingJob, number: int, phase: str = ""
) -> dict[str, meta.Document]:
    made = rounds.render(before, fact(number, "closed"))
    if phase:
        status = experiment.ExperimentStatus(phase=phase, reason="UserError", message="it broke")  # type: ignore[arg-type]
        made = made.model_copy(update={"status": status})
    return {made.metadata.name: made.document()}


def test_a_closed_round_runs_as_an_owned_experiment() -> None:
    made = decide(job(), known(EMBEDDED, fact(1, "closed")))
    (action,) = made.actions
    assert isinstance(action, decision.ApplyChild)
    child = experiment.Experiment.model_validate(action.document)
    block = child.spec.estimator.labeling_round
    assert block is not None
    assert (block.number, block.step, block.job_uid, block.manifest_sha256) == (
        1,
        "learn",
        "j",
        SHA,
    )
    assert child.metadata.owner_references[0].uid == "j"
    assert child.spec.run.mode == "single"
    assert child.spec.run.deterministic
    assert child.spec.telemetry.progress_timeout_seconds == 0
    assert made.status.experiments == [rounds.name(job(), 0), child.metadata.name]
    again = decide(job(made.status), known(EMBEDDED, fact(1, "closed")), round_of(job(), 1))
    assert (again.actions, again.status, again.events) == ((), made.status, ())


@pytest.mark.parametrize("state", ["collecting", "ingested"])
def test_other_rounds_run_nothing(state: Any) -> None:
    assert decide(job(), known(EMBEDDED, fact(1, state))).actions == ()


@pytest.mark.parametrize("phase", ["Failed", "Stopped"])
def test_a_failed_round_is_said_once_and_people_go_on(phase: str) -> None:
    found = known(fact(0, "closed", "embed"))
    made = decide(job(), found, round_of(job(), 0, phase))
    assert made.status.phase == "Labeling"
    assert made.status.reason == "UserError"
    assert "Labels are safe" in made.status.message
    assert [event.reason for event in made.events] == ["RoundFailed"]
    again = decide(job(made.status), found, round_of(job(), 0, phase))
    assert again.events == ()


def test_a_round_that_somebody_else_named_is_said() -> None:
    stored = round_of(job(), 0)
    for document in stored.values():
        document["metadata"]["ownerReferences"] = []
    made = decide(job(), known(fact(0, "closed", "embed")), stored)
    assert conditions.find(made.status.conditions, "Accepted").reason == "NameTaken"  # type: ignore[union-attr]
    assert (made.actions, made.wake_s) == ((), 30.0)


def test_suspending_suspends_the_round_too() -> None:
    before = job(suspend=True)
    made = decide(before, known(fact(0, "closed", "embed")), round_of(job(), 0))
    assert made.status.phase == "Suspended"
    (action,) = made.actions
    assert isinstance(action, decision.ApplyChild)
    assert action.document["spec"]["suspend"] is True
    resumed = decide(job(made.status), known(fact(0, "closed", "embed")))
    assert resumed.status.phase == "Labeling"


def test_figures_are_counts_and_decimal_texts() -> None:
    made = decide(
        job(),
        known(
            EMBEDDED,
            fact(1, "collecting"),
            human=100,
            auto=700,
            decisions=110,
            coverage=0.875,
            certified_error=0.01234567,
            labels_left=12,
            random_commitment="sha",
        ),
    ).status
    assert made.counts.unlabeled == 200
    assert (made.human_fraction, made.coverage, made.certified_error) == (
        "0.1000",
        "0.875000",
        "0.012346",
    )
    assert (made.round, made.labels_left, made.random_commitment) == (1, 12, "sha")


def test_counts_alone_are_not_urgent() -> None:
    first = decide(job(), known(EMBEDDED, human=1))
    second = decide(job(first.status), known(EMBEDDED, human=2))
    assert second.status != first.status
    assert not second.urgent


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("Certified", "True"), ("CertifiedPartial", "True"), ("Uncertified", "False")],
)
def test_the_end_says_what_is_certified(outcome: str, status: str) -> None:
    found = known(
        EMBEDDED,
        fact(1, "ingested", "finalise"),
        state="exported",
        outcome=outcome,
        output_version=2,
    )
    made = decide(job(), found)
    assert (made.status.phase, made.status.output_version) == ("Succeeded", 2)
    assert made.status.completion_time == conditions.timestamp(NOW_S)
    entry = conditions.find(made.status.conditions, "Certified")
    assert entry is not None
    assert (entry.status, entry.reason) == (status, outcome)
    again = decide(job(made.status), known())
    assert (again.status, again.actions, again.urgent) == (made.status, (), False)


def test_a_problem_is_said_and_keeps_the_word_of_the_phase() -> None:
    made = decide(job(), known(EMBEDDED, state="exporting", problem="the API is away"))
    assert (made.status.phase, made.status.message) == ("Exporting", "the API is away")
    entry = conditions.find(made.status.conditions, "Progressing")
    assert entry is not None
    assert entry.status == "False"


def test_a_refused_job_is_over() -> None:
    refusal = errors.InvalidSpec("there is no dataset parts", hint="Import it first.")
    made = cycle.refuse(job(), refusal, now_s=NOW_S)
    assert (made.status.phase, made.status.reason) == ("Failed", "InvalidSpec")
    assert made.status.message == "there is no dataset parts Import it first."
    assert [event.type for event in made.events] == ["Warning"]


def test_a_refused_change_is_said_until_the_next_change() -> None:
    refusal = errors.InvalidSpec("the budget is too small")
    found = known(EMBEDDED)
    first = decide(job(generation=2), found, refused=refusal)
    assert (first.status.phase, first.status.reason) == ("Labeling", "InvalidSpec")
    assert first.status.observed_generation == 2
    second = decide(job(first.status, generation=2), found)
    assert second.status == first.status
    third = decide(job(second.status, generation=3), found)
    assert (third.status.phase, third.status.reason) == ("Labeling", "Labeling")


def test_a_job_that_nobody_took_is_pending() -> None:
    assert decide(job(), None).status.phase == "Pending"
