"""Rounds: who may compute them, what they may hand in, what people do meanwhile."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from quintile.core import meta


def body_of(job: Any, **changes: Any) -> tuple[Any, dict[str, Any]]:
    worker = job.worker()
    return worker, worker.result(**changes)


def test_the_manifest_holds_what_is_settled_and_nothing_else(world: Any) -> None:
    job = world.job()
    worker = job.worker()
    embed = worker.manifest()
    assert (embed.step, embed.labels, embed.random, embed.features_key) == ("embed", [], [], "")
    assert len(embed.exclude) == embed.random_size == 40
    assert embed.commitment == job.known.random_commitment
    assert embed.pool_sha256 == world.catalog.version("default", "pets", 1).manifest_sha256
    job.label(39)
    worker.run()
    assert job.label(10) == ""
    assert job.known.rounds[-1].state == "collecting"
    job.label(1)
    learn = job.worker().manifest()
    assert learn.step == "learn"
    assert len(learn.labels) == 50
    assert learn.labels == sorted(learn.labels)
    assert len(learn.random) == 40
    assert learn.exclude == sorted(item_id for item_id, _ in learn.random)
    assert learn.features_key.endswith("/features.npz")
    assert learn.target == {
        "error": "0.1",
        "confidence": "0.9",
        "guarantee": "dataset",
        "mode": "crossfit",
        "looks": "final",
    }


def test_a_manifest_is_the_same_bytes_whenever_it_is_made(world: Any) -> None:
    job = world.job()
    fact = job.closed()
    stored = world.objects.get(fact.manifest_key)
    assert hashlib.sha256(stored).hexdigest() == fact.manifest_sha256
    assert json.dumps(json.loads(stored), sort_keys=True, separators=(",", ":")) == stored.decode()


def test_every_open_gives_fresh_places(world: Any) -> None:
    worker = world.job().worker()
    first, second = worker.open().json(), worker.open().json()
    keys = {access["uploads"]["features"]["key"] for access in (first, second)}
    assert len(keys) == 2
    assert all(f"/0/{worker.attempt}-" in key for key in keys)


def test_a_result_is_taken_once(world: Any) -> None:
    job = world.job()
    worker, body = body_of(job)
    assert worker.hand_in(body).json() == {"number": 0, "repeated": False}
    before = job.known
    assert worker.hand_in(body).json() == {"number": 0, "repeated": True}
    assert job.known == before


def test_two_results_at_once_count_once(world: Any, at_once: Callable[..., list[Any]]) -> None:
    worker, body = body_of(world.job())
    answers = at_once(*([lambda: worker.hand_in(body)] * 4))
    assert sorted(answer.json()["repeated"] for answer in answers) == [False, True, True, True]


def test_a_newer_attempt_fences_the_older(world: Any) -> None:
    job = world.job()
    old, body = body_of(job)
    new = job.worker(attempt=2)
    assert new.open().status_code == 200
    for answer in (old.open(), old.hand_in(body)):
        assert answer.status_code == 409
        assert answer.json()["type"].endswith("/fenced")
        assert "Attempt 2 computes round 0 now" in answer.json()["detail"]
    assert new.hand_in(new.result()).status_code == 200
    assert new.hand_in(new.result()).json()["repeated"] is True


def test_tokens_open_their_own_round_alone(world: Any) -> None:
    job, other = world.job(), world.job("others")
    worker, foreign = job.worker(), other.worker()
    path = f"/api/v1/internal/labeling/{other.uid}/rounds/0/open"
    answer = worker.client.post(path, json={"attempt": 1})
    assert answer.status_code == 403
    assert "does not compute round 0 of this labeling job" in answer.json()["detail"]
    assert foreign.open().status_code == 200
    body = foreign.result()
    assert worker.client.post(f"{foreign.path}/result", json=body).status_code == 403
    assert foreign.hand_in(body).status_code == 200
    assert worker.open(attempt=2).status_code == 409
    assert (
        world.person("max", "manager").post(f"{worker.path}/open", json={"attempt": 1}).status_code
        == 401
    )
    assert world.anonymous().post(f"{worker.path}/open", json={"attempt": 1}).status_code == 401


def test_an_experiment_that_the_job_does_not_own_opens_nothing(world: Any) -> None:
    job = world.job()
    worker = job.worker()
    trial = world.resources.get(meta.Key("Trial", "default", worker.trial["metadata"]["name"]))
    experiment = world.resources.get(meta.Key("Experiment", "default", trial["spec"]["experiment"]))
    forged = {
        **experiment,
        "metadata": {"name": "forged", "namespace": "default"},
    }
    made = world.resources.apply(forged, manager="test")
    mine = {
        **trial,
        "metadata": {"name": "forged-t0-abcdef", "namespace": "default"},
        "spec": {**trial["spec"], "experiment": "forged", "experimentUid": made["metadata"]["uid"]},
    }
    stored = world.resources.apply(mine, manager="test")
    client = world.bearer(world.trial_token(stored))
    assert client.post(f"{worker.path}/open", json={"attempt": 1}).status_code == 403


def test_a_deleted_trial_opens_nothing(world: Any) -> None:
    worker = world.job().worker()
    world.resources.delete(meta.Key("Trial", "default", worker.trial["metadata"]["name"]))
    answer = worker.open()
    assert answer.status_code == 403
    assert "behind this token any more" in answer.json()["detail"]


def test_a_round_that_collects_cannot_be_opened(world: Any) -> None:
    job = world.job()
    job.compute()
    fact = job.known.rounds[-1]
    assert fact.state == "collecting"
    worker = job.worker(fact=dataclasses.replace(fact, manifest_key="k", manifest_sha256="0" * 64))
    answer = worker.open()
    assert answer.status_code == 409
    assert "is not closed yet" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"step": "learn"}, "round 0 is a step embed, not learn"),
        ({"features_key": "rounds/elsewhere/features.npz"}, "is not a place of this attempt"),
        ({"features_key": ""}, "is not a place of this attempt"),
        ({"order": ["0" * 16], "reasons": []}, "is not one of the job's"),
        ({"reasons": ["only one"]}, "items are ranked with 1 reasons"),
    ],
)
def test_a_bad_embedding_is_refused(world: Any, changes: dict[str, Any], words: str) -> None:
    worker, body = body_of(world.job(), **changes)
    answer = worker.hand_in(body)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_outputs_that_were_never_stored_are_refused(world: Any) -> None:
    worker, body = body_of(world.job())
    key = worker.access.uploads["predictions"].key
    answer = worker.hand_in({**body, "predictions_key": key, "predictions_sha256": "0" * 64})
    assert answer.status_code == 422
    assert "predictions are not stored under" in answer.json()["detail"]


def reach_finalise(job: Any) -> tuple[Any, dict[str, Any]]:
    job.reach("finalising")
    return body_of(job)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda body: body["certificate"].update(random_wrong=0, upper_wrong=0), "does not follow"),
        (lambda body: body["certificate"].pop("look"), "cannot be read"),
        (lambda body: body["accepted"].pop(), "the list holds"),
        (lambda body: body.update(predictions_sha256="0" * 64), "have another SHA-256"),
        (lambda body: body.update(scores_key=body["predictions_key"]), "have another SHA-256"),
    ],
    ids=["forged counts", "missing field", "another list", "digest", "scores"],
)
def test_a_bad_certificate_is_refused(
    world: Any, break_it: Callable[[dict[str, Any]], Any], words: str
) -> None:
    job = world.job(target={"error": "0.2", "confidence": "0.9", "random": "40"})
    worker, body = reach_finalise(job)
    break_it(body)
    answer = worker.hand_in(body)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert job.known.outcome == ""


def test_nothing_measured_on_random_items_is_seen_before_the_certificate(world: Any) -> None:
    job = world.job()
    job.compute()
    job.label(60)
    job.compute()
    client = world.person("vic", "viewer")
    assert client.get(f"{job.path}/certificate").status_code == 404
    items = job.get("items", params={"limit": 500})["items"]
    assert {item["source"] for item in items if item["random"]} == {"human"}
    undone = next(item for item in items if item["random"])
    job.undo(undone["item_id"])
    again = job.get("items", params={"limit": 500})["items"]
    shown = next(item for item in again if item["item_id"] == undone["item_id"])
    assert (shown["label"], shown["source"]) == (None, "none")
    others = [item for item in again if not item["random"] and item["source"] != "human"]
    assert {item["source"] for item in others} == {"auto-uncertified"}
    kinds = [step["kind"] for step in job.get(f"items/{undone['item_id']}/why")["steps"]]
    assert "predicted" not in kinds


def test_people_never_wait_for_a_round(world: Any) -> None:
    job = world.job(
        "pets",
        strategy={"batch": "10", "lookahead": 1},
        budget={"maxHumanLabels": "100", "maxRounds": 3},
    )
    job.compute()
    seen = [task["purpose"] for task in job.next(count=25)["tasks"]]
    assert "chosen" in seen
    assert "random" in seen
    world.clock.sleep(3600)
    while job.get("rounds")["items"][-1]["state"] == "collecting":
        job.label(1)
    assert job.closed().number == 1
    served = 0
    while (batch := job.next(count=5))["tasks"]:
        served += len(batch["tasks"])
        job.send(*(job.answer(task) for task in batch["tasks"]))
        assert {task["purpose"] for task in batch["tasks"]} <= {"random", "chosen"}
    assert served >= 10
    assert batch["waiting"] == "RoundRunning"
    job.compute()
    assert job.known.rounds[-1].number == 2
    job.finish()


def test_random_items_are_mixed_evenly_into_the_batches(world: Any) -> None:
    job = world.job(strategy={"batch": "10", "lookahead": 1})
    job.compute()
    purposes = []
    for _ in range(30):
        task = job.next()["tasks"][0]
        purposes.append(task["purpose"])
        job.send(job.answer(task))
    assert 5 <= purposes.count("chosen") <= 15
    assert {"chosen", "random"} == set(purposes[:8])


def test_a_chosen_item_shows_what_the_machine_thinks_unless_blind(world: Any) -> None:
    job = world.job(
        target={"error": "0.2", "confidence": "0.9", "random": "20"},
        strategy={"batch": "25", "lookahead": 0},
    )
    job.compute()
    assert job.label(45) == ""
    job.compute()
    tasks = job.next(count=25)["tasks"]
    assert {task["purpose"] for task in tasks} == {"chosen"}
    blind = [task for task in tasks if task["suggestion"] is None]
    eyed = [task for task in tasks if task["suggestion"] is not None]
    assert eyed
    assert blind
    assert eyed[0]["suggestion"]["confidence"] == pytest.approx(0.8)
    assert eyed[0]["suggestion"]["label"] in ("cat", "dog", "eel")
    assert all(task["why"].startswith("cat or dog") for task in eyed)
    assert all(task["why"] == "chosen, shown blind" for task in blind)


def test_uncovered_items_are_asked_with_suggestions_most_doubtful_first(world: Any) -> None:
    job = world.job(budget={"maxHumanLabels": "100", "maxRounds": 1})
    job.reach("covering")
    batch = job.next(count=25)
    assert {task["purpose"] for task in batch["tasks"]} == {"uncovered"}
    assert all(task["suggestion"] is not None for task in batch["tasks"])
    assert job.known.labels_left == job.get("stats")["uncovered"] > 0


def test_an_engine_that_stops_ends_the_learning(world: Any) -> None:
    job = world.job(budget={"maxHumanLabels": "110", "maxRounds": 8})
    job.compute()
    job.label(50)
    worker = job.worker()
    body = worker.result()
    body["report"] |= {"stop": "Converged", "coverage": float("1e308"), "unknown": [1]}
    assert worker.hand_in(body).status_code == 200
    world.work()
    assert [fact.step for fact in job.known.rounds] == ["embed", "learn", "finalise"]


def test_a_round_that_learned_nothing_predicts_nothing(world: Any) -> None:
    job = world.job()
    job.compute()
    while (batch := job.next(count=25))["tasks"]:
        unsure = {"verdict": "unsure"}
        job.send(*(job.answer(task, payload=unsure) for task in batch["tasks"]))
    worker, body = body_of(job)
    answer = worker.hand_in({**body, "predictions_key": "", "predictions_sha256": ""})
    assert answer.status_code == 200
    assert job.next()["tasks"][0]["suggestion"] is None
