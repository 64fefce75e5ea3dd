"""What is refused, with which status, and what the message says."""

from __future__ import annotations

from typing import Any

import pytest

JOBS = "/api/v1/projects/default/labeling-jobs"


def spec_of(**changes: Any) -> dict[str, Any]:
    return {
        "dataset": {"name": "pets", "version": 1},
        "labels": ["cat", "dog", "eel"],
        "target": {"error": "0.1", "confidence": "0.9"},
        "budget": {"maxHumanLabels": "100"},
        **changes,
    }


SPECS = [
    ({"colour": "red"}, "spec.colour: this field is not known"),
    ({"dataset": {"name": "pets"}}, "spec.dataset.version: this field is missing"),
    ({"dataset": {"name": "pets", "version": 9}}, "There is no version 9 of dataset 'pets'"),
    ({"dataset": {"name": "none", "version": 1}}, "There is no version 1 of dataset 'none'"),
    ({"labels": ["cat"]}, "spec.labels"),
    ({"labels": ["cat", "cat"]}, "labels holds cat more than once"),
    ({"labels": ["dog", "cat"]}, "must begin with the 2 classes of dataset 'pets' version 1"),
    ({"target": {"error": "2"}}, "error is 2; expected between 0 and 0.5"),
    ({"target": {"error": "abc"}}, "spec.target.error"),
    ({"target": {"mode": "magic"}}, "spec.target.mode"),
    ({"target": {"error": "0.1", "confidence": "0.9", "random": "5"}}, "needs 19 or more"),
    ({"budget": {"maxHumanLabels": "15"}}, "the random items of the certificate alone take 19"),
    ({"budget": {"maxHumanLabels": "10%"}}, "is 12 answers"),
    (
        {"budget": {"maxHumanLabels": "30"}, "review": {"overlap": "100%"}},
        "the random items of the certificate alone take 38",
    ),
    ({"budget": {"maxHumanLabels": "-1"}}, "spec.budget.maxHumanLabels"),
    ({"output": {"version": 1}}, "output.version"),
    ({"output": {"version": 5}}, "Version 5 of dataset 'pets' exists already"),
    ({"task": "poetry"}, "spec.task"),
    ({"seed": -1}, "spec.seed"),
]


@pytest.fixture(scope="module")
def picky(shared: Any) -> Any:
    """A world with version 1 (classes cat and dog) and version 5 of dataset pets."""
    shared.dataset(classes=("cat", "dog"))
    shared.catalog.add("default", "pets", 5, names=["x"])
    return shared


@pytest.fixture(scope="module")
def asked(picky: Any) -> Any:
    """A job of that world."""
    return picky.job("pets")


@pytest.mark.parametrize(("changes", "words"), SPECS, ids=[words[:40] for _, words in SPECS])
def test_jobs_that_can_never_succeed(picky: Any, changes: dict[str, Any], words: str) -> None:
    answer = picky.manager().post(JOBS, json={"name": "never", "spec": spec_of(**changes)})
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert words in problem["detail"]
    assert problem["field"].startswith("spec")
    assert picky.manager().get(f"{JOBS}/never").status_code == 404


BODIES = [
    ({}, "name"),
    ({"name": "pets"}, "spec"),
    ({"name": "Pets!", "spec": spec_of()}, "metadata.name"),
    ({"name": "p" * 29, "spec": spec_of()}, "at most 28 fit"),
    ({"name": "pets", "spec": spec_of(), "extra": 1}, "extra: this field is not known"),
    ({"kind": "LabelingJob", "metadata": "x"}, "metadata must be a mapping"),
    (
        {"metadata": {"name": "pets", "namespace": "other"}, "spec": spec_of()},
        "is of project 'other' but was sent to 'default'",
    ),
    ({"kind": "Experiment", "metadata": {"name": "pets"}, "spec": spec_of()}, "kind"),
]


@pytest.mark.parametrize(("body", "words"), BODIES, ids=[words[:40] for _, words in BODIES])
def test_bodies_that_are_no_job(picky: Any, body: dict[str, Any], words: str) -> None:
    answer = picky.manager().post(JOBS, json=body)
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["detail"]


def test_an_empty_version_has_nothing_to_label(world: Any) -> None:
    world.catalog.add("default", "pets", 1, names=[])
    answer = world.manager().post(JOBS, json={"name": "pets", "spec": spec_of()})
    assert answer.status_code == 422
    assert "holds no items" in answer.json()["detail"]


def test_an_api_that_is_away_is_no_refusal(world: Any) -> None:
    from quintile.core import errors

    world.dataset()
    world.catalog.failures.append(errors.Unavailable("The API is away.", retry_after_s=2))
    answer = world.manager().post(JOBS, json={"name": "pets", "spec": spec_of()})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"


ANSWERS = [
    ({"payload": {"labels": [3]}}, "There is no class 3; the job has classes 0 to 2."),
    ({"payload": {"labels": [-1]}}, "There is no class -1"),
    ({"payload": {"labels": [0, 1]}}, "takes exactly one"),
    ({"payload": {"labels": []}}, "holds 0 classes"),
    ({"payload": {"labels": [0], "verdict": "skip"}}, "'skip' comes with labels"),
    (
        {"payload": {"labels": [0], "shapes": [{"id": "a", "kind": "box", "class_id": 0}]}},
        "takes one class and no shapes",
    ),
    ({"slot_id": "nothing"}, "There is no slot 'nothing' in this job."),
    ({"lease": "never"}, "was never given to ann"),
    ({"item_id": "0" * 16}, "belongs to item"),
]


@pytest.mark.parametrize(("changes", "words"), ANSWERS, ids=[words[:40] for _, words in ANSWERS])
def test_answers_that_do_not_fit_are_refused_one_by_one(
    asked: Any, changes: dict[str, Any], words: str
) -> None:
    job = asked
    first, second = job.next(count=2, fresh=True)["tasks"]
    bad, good = job.send(job.answer(first, **changes), job.answer(second))
    assert bad["outcome"] == "refused"
    assert words in bad["problem"]
    assert good["outcome"] == "accepted"
    fixed = job.send(job.answer(first, client_id=bad["client_id"]))[0]
    assert fixed["outcome"] == "accepted"


def test_a_lease_of_somebody_else_is_no_permission(world: Any) -> None:
    job = world.job()
    task = job.next("ann")["tasks"][0]
    stolen = job.send(job.answer(task), user="bob")[0]
    assert stolen["outcome"] == "refused"
    assert "was never given to bob" in stolen["problem"]
    other = world.job("other")
    foreign = other.send(other.answer(task))[0]
    assert foreign["outcome"] == "refused"


REQUESTS = [
    ("POST", "tasks/next", {"count": 0}, 422, "count"),
    ("POST", "tasks/next", {"count": 26}, 422, "count"),
    ("POST", "tasks/next", {"client": "x" * 65}, 422, "client"),
    ("POST", "tasks/next", {"what": 1}, 422, "what: this field is not known"),
    ("POST", "tasks/next?wait_s=31", {}, 422, "wait_s"),
    ("POST", "tasks/leases", {"leases": ["x"] * 26}, 422, "leases"),
    ("POST", "annotations", {"answers": []}, 422, "answers"),
    ("POST", "annotations", {"answers": [{"client_id": "short"}]}, 422, "answers[0]"),
    ("POST", "annotations/undo", {"client_id": "12345678"}, 422, "item_id"),
    ("POST", "annotations/undo", {"client_id": "12345678", "item_id": "x"}, 404, "no answer"),
    ("GET", "items?source=magic", None, 422, "'magic' is not a source"),
    ("GET", "items?label=fox", None, 422, "no label 'fox'; it has cat, dog, eel"),
    ("GET", "items?limit=501", None, 422, "limit"),
    ("GET", "items?cursor=%21%21", None, 422, "The cursor is not one that this list gave"),
    ("GET", "labels.csv?round=7", None, 404, "Round 7 of labeling job 'pets' has no predictions"),
    ("GET", "certificate", None, 404, "has no certificate yet"),
    ("GET", "certificate/scores", None, 404, "has no certificate yet"),
    ("GET", "items/0000/why", None, 404, "has no item '0000'"),
    ("PATCH", "", {"labels": ["dog", "cat", "eel", "fox"]}, 422, "labels must begin with"),
    ("PATCH", "", {"labels": ["cat", "dog", "eel", "cat"]}, 422, "more than once"),
    ("PATCH", "", {"budget": {"maxRounds": 0}}, 422, "maxRounds"),
    ("PATCH", "", {"budget": {"maxHumanLabels": "lots"}}, 422, "maxHumanLabels"),
    ("PATCH", "", {"seed": 4}, 422, "seed: this field is not known"),
]


@pytest.mark.parametrize(
    ("method", "route", "body", "status", "words"),
    REQUESTS,
    ids=[f"{method} {route} {words[:20]}" for method, route, _, _, words in REQUESTS],
)
def test_requests(asked: Any, method: str, route: str, body: Any, status: int, words: str) -> None:
    path = f"{asked.path}/{route}".rstrip("/")
    answer = asked.world.manager().request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("POST", "tasks/next"),
        ("POST", "tasks/leases"),
        ("GET", "stats"),
        ("GET", "rounds"),
        ("GET", "labels.csv"),
    ],
)
def test_a_job_that_does_not_exist(picky: Any, method: str, route: str) -> None:
    answer = picky.person("ann").request(method, f"{JOBS}/missing/{route}", json={})
    assert answer.status_code == 404
    assert "no labeling job 'missing'" in answer.json()["detail"]
