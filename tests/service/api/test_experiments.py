"""Experiments from creation to deletion, safe repeats, dry runs, bundles."""

from __future__ import annotations

import hashlib
from typing import Any

from quintile.core import meta

P = "/api/v1/projects/default"
E = f"{P}/experiments"


def test_create_read_list_delete(world: Any) -> None:
    world.experiment("b")
    made = world.experiment("a")
    client = world.admin()
    assert made["metadata"]["annotations"]["quintile.dev/created-by"] == "ada"
    assert client.get(f"{E}/a").json() == made
    listed = client.get(E).json()
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a", "b"]
    assert listed["next_cursor"] is None
    assert client.delete(f"{E}/a").status_code == 204
    assert client.get(f"{E}/a").status_code == 404
    assert client.delete(f"{E}/a").status_code == 404


def test_pages_follow_the_cursor(world: Any) -> None:
    for name in ("a", "b", "c"):
        world.experiment(name)
    client, names, cursor = world.admin(), [], ""
    for _ in range(3):
        page = client.get(E, params={"limit": 1, "cursor": cursor}).json()
        names += [item["metadata"]["name"] for item in page["items"]]
        cursor = page["next_cursor"] or ""
    assert names == ["a", "b", "c"]
    assert cursor == ""


def test_a_whole_document_is_taken_too(world: Any) -> None:
    made = world.experiment("a")
    document = {
        "apiVersion": made["apiVersion"],
        "kind": "Experiment",
        "metadata": {"name": "again", "labels": {"team": "vision"}},
        "spec": made["spec"],
    }
    answer = world.admin().post(E, json=document)
    assert answer.status_code == 201
    assert answer.json()["metadata"]["namespace"] == "default"
    assert answer.json()["metadata"]["labels"] == {"team": "vision"}


def test_the_same_key_has_one_effect(world: Any, at_once: Any) -> None:
    client = world.admin()
    body = {"name": "once", "spec": world.experiment("x")["spec"]}
    headers = {"Idempotency-Key": "key-1"}

    def post() -> Any:
        answer = client.post(E, json=body, headers=headers)
        while answer.status_code == 503:
            answer = client.post(E, json=body, headers=headers)
        return answer

    answers = at_once(*[post] * 6)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert client.post(E, json=body).status_code == 409
    other = client.post(E, json=body | {"name": "twice"}, headers=headers)
    assert other.status_code == 422
    assert other.json()["field"] == "Idempotency-Key"


def test_a_failed_request_frees_its_key(world: Any) -> None:
    client, headers = world.admin(), {"Idempotency-Key": "key-2"}
    body = {"name": "taken", "spec": world.experiment("taken")["spec"]}
    assert client.post(E, json=body, headers=headers).status_code == 409
    client.delete(f"{E}/taken")
    assert client.post(E, json=body, headers=headers).status_code == 201


def test_a_dry_run_makes_nothing(world: Any) -> None:
    client = world.admin()
    body = {"spec": {"estimator": {"builtin": {}}, "run": {"workers": {"replicas": 2}}}}
    plans = client.post(f"{E}/digits:plan", json=body).json()["plans"]
    assert [replica["index"] for replica in plans[0]["replicas"]] == [0, 1]
    assert plans[0]["mode"] == "ddp"
    assert "token" not in plans[0]
    assert client.get(E).json()["items"] == []


def test_suspend_and_resume_change_the_spec(world: Any) -> None:
    world.experiment("digits")
    client = world.admin()
    assert client.post(f"{E}/digits/stop", json={"suspend": True}).json()["spec"]["suspend"]
    assert client.get(f"{E}/digits").json()["spec"]["suspend"] is True
    assert client.post(f"{E}/digits/resume").status_code == 202
    assert client.get(f"{E}/digits").json()["spec"]["suspend"] is False


def test_an_elastic_experiment_can_be_scaled_within_its_bounds(world: Any) -> None:
    world.experiment("digits", run={"workers": {"replicas": 2, "min": 1, "max": 4}})
    client = world.admin()
    assert client.post(f"{E}/digits/scale", json={"workers": 4}).status_code == 202
    found = client.get(f"{E}/digits").json()
    assert found["spec"]["run"]["workers"] == {"replicas": 4, "min": 1, "max": 4}
    assert found["metadata"]["generation"] == 2
    answer = client.post(f"{E}/digits/scale", json={"workers": 5})
    assert (answer.status_code, answer.json()["field"]) == (422, "spec.run")
    assert "workers.max 4 is below replicas 5" in answer.json()["detail"]
    for wrong in (0, 1025, "two"):
        assert client.post(f"{E}/digits/scale", json={"workers": wrong}).status_code == 422
    assert client.get(f"{E}/digits").json()["spec"]["run"]["workers"]["replicas"] == 4


def test_who_is_not_elastic_or_has_ended_is_not_scaled(world: Any) -> None:
    made = world.experiment("digits")
    client = world.admin()
    answer = client.post(f"{E}/digits/scale", json={"workers": 3})
    assert answer.status_code == 422
    assert "fixed number of workers" in answer.json()["detail"]
    key = meta.Key("Experiment", "default", "digits")
    world.resources.patch_status(key, {"phase": "Succeeded"}, uid=made["metadata"]["uid"])
    assert client.post(f"{E}/digits/scale", json={"workers": 3}).status_code == 409


def test_stop_before_there_is_a_trial_asks_to_come_back(world: Any) -> None:
    world.experiment("digits")
    answer = world.admin().post(f"{E}/digits/stop")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


def test_what_has_ended_neither_stops_nor_goes_on(world: Any) -> None:
    made = world.experiment("digits")
    key = meta.Key("Experiment", "default", "digits")
    world.resources.patch_status(key, {"phase": "Succeeded"}, uid=made["metadata"]["uid"])
    client = world.admin()
    assert client.post(f"{E}/digits/stop").status_code == 202
    answer = client.post(f"{E}/digits/resume")
    assert answer.status_code == 409
    assert "Succeeded" in answer.json()["detail"]


def test_trials_are_listed_by_experiment(world: Any) -> None:
    trial = world.trial("one")
    world.trial("two")
    client = world.admin()
    assert len(client.get(f"{P}/trials").json()["items"]) == 2
    listed = client.get(f"{P}/trials", params={"experiment": "one"}).json()["items"]
    assert [item["metadata"]["name"] for item in listed] == [trial.name]
    assert client.get(trial.path).json()["metadata"]["uid"] == trial.uid


def test_a_bundle_is_stored_under_its_digest_and_read_by_its_trial(world: Any) -> None:
    data = b"bundle bytes"
    sha256 = hashlib.sha256(data).hexdigest()
    client = world.admin()
    script = {"estimator": {"script": {"bundle": sha256, "entry": "train.py"}}}
    early = client.post(E, json={"name": "s", "spec": script})
    assert early.status_code == 422
    assert f"PUT /api/v1/bundles/{sha256}" in early.json()["hint"]
    assert client.request("HEAD", f"/api/v1/bundles/{sha256}").status_code == 404
    for _ in range(2):
        assert client.put(f"/api/v1/bundles/{sha256}", content=data).status_code == 201
    assert client.request("HEAD", f"/api/v1/bundles/{sha256}").headers["x-bundle-size"] == "12"
    assert client.post(E, json={"name": "s", "spec": script}).status_code == 201
    trial = world.trial("scripted", script={"bundle": sha256, "entry": "train.py"})
    agent = trial.agent().client
    assert agent.get(f"/api/v1/internal/bundles/{sha256}").content == data
    other = hashlib.sha256(b"other").hexdigest()
    client.put(f"/api/v1/bundles/{other}", content=b"other")
    assert agent.get(f"/api/v1/internal/bundles/{other}").status_code == 403
