"""Labeling jobs as resources: create, read, change, pause, delete, admit again."""

from __future__ import annotations

from typing import Any

import pytest

from quintile.core import errors, meta

JOBS = "/api/v1/projects/default/labeling-jobs"


def spec_of(**changes: Any) -> dict[str, Any]:
    return {
        "dataset": {"name": "pets", "version": 1},
        "labels": ["cat", "dog", "eel"],
        "target": {"error": "0.1", "confidence": "0.9", "random": "40"},
        "strategy": {"batch": "10", "lookahead": 0},
        "budget": {"maxHumanLabels": "100", "maxRounds": 2},
        **changes,
    }


def test_create_read_list_delete(world: Any) -> None:
    world.dataset()
    client = world.manager()
    for name in ("b", "a", "c"):
        made = client.post(JOBS, json={"name": name, "spec": spec_of()})
        assert made.status_code == 201
    assert made.json()["metadata"]["annotations"]["quintile.dev/created-by"] == "max"
    assert client.get(f"{JOBS}/c").json() == made.json()
    page = client.get(JOBS, params={"limit": 2}).json()
    assert [item["metadata"]["name"] for item in page["items"]] == ["a", "b"]
    rest = client.get(JOBS, params={"cursor": page["next_cursor"]}).json()
    assert [item["metadata"]["name"] for item in rest["items"]] == ["c"]
    assert rest["next_cursor"] is None
    assert client.delete(f"{JOBS}/a").status_code == 204
    for path in (f"{JOBS}/a", f"{JOBS}/a/stats"):
        assert client.get(path).status_code == 404
    assert client.delete(f"{JOBS}/a").status_code == 404


def test_a_whole_document_is_taken_too(world: Any) -> None:
    world.dataset()
    document = {
        "apiVersion": meta.API_VERSION,
        "kind": "LabelingJob",
        "metadata": {"name": "pets", "labels": {"team": "vision"}},
        "spec": spec_of(),
    }
    made = world.manager().post(JOBS, json=document)
    assert made.status_code == 201
    assert made.json()["metadata"]["labels"] == {"team": "vision"}


def test_a_safe_repeat_makes_one_job(world: Any) -> None:
    world.dataset()
    client = world.manager()
    headers = {"Idempotency-Key": "the-first"}
    body = {"name": "pets", "spec": spec_of()}
    first = client.post(JOBS, json=body, headers=headers)
    again = client.post(JOBS, json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert client.post(JOBS, json=body, headers={"Idempotency-Key": "other"}).status_code == 409
    assert client.post(JOBS, json=body).status_code == 409


@pytest.mark.parametrize(
    ("role", "reads", "answers", "manages"),
    [
        (None, 404, 404, 404),
        ("viewer", 200, 403, 403),
        ("labeler", 200, 200, 403),
        ("reviewer", 200, 200, 403),
        ("manager", 200, 200, 202),
    ],
)
def test_roles(world: Any, role: str | None, reads: int, answers: int, manages: int) -> None:
    job = world.job()
    client = world.person("someone", role)
    for route in ("", "/stats", "/rounds", "/curve", "/items", "/labels.csv"):
        assert client.get(f"{job.path}{route}").status_code == reads, route
    assert client.post(f"{job.path}/tasks/next", json={}).status_code == answers
    assert client.post(f"{job.path}/suspend").status_code == manages
    patched = client.patch(job.path, json={"budget": {"maxRounds": 3}})
    assert patched.status_code == (200 if manages == 202 else manages)
    assert client.delete(job.path).status_code == (204 if manages == 202 else manages)


def test_callers_without_credentials_get_nothing(world: Any) -> None:
    job = world.job()
    for method, route in (("GET", ""), ("GET", "/stats"), ("POST", "/tasks/next")):
        answer = world.anonymous().request(method, f"{job.path}{route}", json={})
        assert answer.status_code == 401
    assert world.bearer("wrong").get(job.path).status_code == 401
    odd = world.anonymous()
    odd.headers["Authorization"] = "Basic abc"
    assert odd.get(job.path).status_code == 401
    assert world.bearer("service-secret").get(f"{job.path}/stats").status_code == 200


def test_a_browser_needs_its_csrf_header(world: Any) -> None:
    job = world.job()
    client = world.anonymous()
    client.cookies.set("quintile_session", world.identities.add("ann", role="labeler"))
    assert client.get(f"{job.path}/stats").status_code == 200
    assert client.post(f"{job.path}/tasks/next", json={}).status_code == 403
    client.headers["X-Quintile-CSRF"] = "1"
    assert client.post(f"{job.path}/tasks/next", json={}).status_code == 200


def test_identities_are_asked_at_most_every_five_seconds(world: Any) -> None:
    job = world.job()
    before = world.identities.asked
    for _ in range(5):
        job.next()
    assert world.identities.asked == before + 1
    world.clock.sleep(6)
    job.next()
    assert world.identities.asked == before + 2


def test_suspend_and_resume_are_idempotent(world: Any) -> None:
    job = world.job()
    client = world.manager()
    for route, value in (("suspend", True), ("suspend", True), ("resume", False)):
        answer = client.post(f"{job.path}/{route}")
        assert answer.status_code == 202
        assert answer.json()["spec"].get("suspend", False) is value
    missing = client.post(f"{JOBS}/missing/suspend")
    assert missing.status_code == 404


def test_a_suspended_job_is_not_exported(world: Any) -> None:
    job = world.job(finish={"uncovered": "leave"})
    job.reach("finalising")
    client = world.manager()
    client.post(f"{job.path}/suspend")
    job.compute()
    assert job.known.state == "exporting"
    client.post(f"{job.path}/resume")
    world.work()
    assert job.known.state == "exported"


def test_a_larger_budget_goes_on_where_the_old_one_ended(world: Any) -> None:
    job = world.job(
        target={"error": "0.1", "confidence": "0.9", "random": "25"},
        budget={"maxHumanLabels": "40", "maxRounds": 1},
    )
    job.reach("exported")
    spent = job.get("stats")
    assert spent["spent"] == spent["budget"] == 40
    assert spent["uncovered"] > 0
    other = world.job(
        "other",
        target={"error": "0.1", "confidence": "0.9", "random": "25"},
        budget={"maxHumanLabels": "50", "maxRounds": 1},
    )
    other.reach("covering")
    changed = world.manager().patch(other.path, json={"budget": {"maxHumanLabels": "120"}})
    assert changed.status_code == 200
    assert changed.json()["spec"]["budget"] == {"maxHumanLabels": "120", "maxRounds": 1}
    other.reach("exported")
    stats = other.get("stats")
    assert (stats["budget"], stats["uncovered"]) == (120, 0)
    assert other.known.outcome == "Certified"


def test_appended_labels_ask_the_random_items_again(world: Any) -> None:
    job = world.job()
    job.compute()
    job.label(45)
    before = job.get("stats")
    assert (before["random_settled"], before["human"]) == (40, 45)
    labels = ["cat", "dog", "eel", "fox"]
    changed = world.manager().patch(job.path, json={"labels": labels})
    assert changed.status_code == 200
    after = job.get("stats")
    assert (after["random_settled"], after["human"], after["spent"]) == (0, 5, 5)
    assert after["decisions"] == before["decisions"]
    task = job.next(count=1)["tasks"][0]
    assert task["purpose"] == "random"
    assert job.send(job.answer(task, payload={"labels": [3]}))[0]["outcome"] == "accepted"
    assert job.get("stats")["by_class"]["fox"] == 1
    kinds = [step["kind"] for step in job.get(f"items/{task['item_id']}/why")["steps"]]
    assert kinds.count("reopen") == 1
    job.finish()
    made, rows = next(iter(world.catalog.made.values()))
    assert [one.name for one in made.classes] == labels
    assert {row.schema_version for row in rows if row.source == "human"} == {1, 2}


def test_labels_cannot_be_appended_once_the_certificate_is_made(world: Any) -> None:
    job = world.job()
    job.reach("covering")
    labels = ["cat", "dog", "eel", "fox"]
    answer = world.manager().patch(job.path, json={"labels": labels})
    assert answer.status_code == 409
    assert "new job" in answer.json()["hint"]


def test_an_ended_job_does_not_change(world: Any) -> None:
    job = world.job()
    key = meta.Key("LabelingJob", "default", "pets")
    world.resources.patch_status(key, {"phase": "Succeeded"}, uid=job.uid)
    client = world.manager()
    for answer in (
        client.post(f"{job.path}/suspend"),
        client.patch(job.path, json={"budget": {"maxRounds": 3}}),
    ):
        assert answer.status_code == 409
        assert "is Succeeded for good" in answer.json()["detail"]


def test_admitting_again_changes_nothing(world: Any) -> None:
    job = world.job()
    document = world.resources.get(meta.Key("LabelingJob", "default", "pets"))
    before = job.known
    job.label(3)
    assert world.facts.admit(document).human == 3
    assert job.known.random_commitment == before.random_commitment
    world.catalog.failures.append(errors.Unavailable("away"))
    assert world.facts.admit(document).human == 3


def test_the_reconciler_may_hand_a_job_in_first(world: Any) -> None:
    world.dataset()
    document = world.resources.apply(
        {
            "apiVersion": meta.API_VERSION,
            "kind": "LabelingJob",
            "metadata": {"name": "pets", "namespace": "default"},
            "spec": spec_of(),
        },
        manager="test",
    )
    assert world.facts.job(document["metadata"]["uid"]) is None
    known = world.facts.admit(document)
    assert (known.state, known.items) == ("importing", 120)
    bad = {**document, "spec": spec_of(dataset={"name": "pets", "version": 7})}
    bad["metadata"] = {**document["metadata"], "uid": "another"}
    with pytest.raises(errors.InvalidSpec, match="There is no version 7 of dataset 'pets'"):
        world.facts.admit(bad)


def test_a_new_job_of_an_old_name_starts_anew(world: Any) -> None:
    job = world.job()
    job.label(5)
    world.resources.delete(meta.Key("LabelingJob", "default", "pets"))
    again = world.job()
    assert again.get("stats")["human"] == 0
    world.work()
    assert again.next()["tasks"]


def test_a_commitment_is_there_from_the_start_and_opens_later(world: Any) -> None:
    job, other = world.job(), world.job("other")
    assert len(job.known.random_commitment) == 64
    assert job.known.random_commitment != other.known.random_commitment


def test_health(world: Any) -> None:
    client = world.anonymous()
    for path in ("/healthz", "/readyz", "/api/v1/labeling/health"):
        assert client.get(path).json() == {"status": "ok"}
