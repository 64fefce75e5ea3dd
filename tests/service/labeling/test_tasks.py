"""Who gets which task: leases, limits, blindness, waiting."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest


def test_random_items_come_first_blind_and_at_once(world: Any) -> None:
    job = world.job()
    batch = job.next(count=25)
    assert len(batch["tasks"]) == 25
    assert batch["ready"] == 15
    assert batch["state"] == "labeling"
    task = batch["tasks"][0]
    assert task["purpose"] == "random"
    assert task["suggestion"] is None
    assert task["why"] == "random"
    assert task["base_revision"] == 0
    path = f"/api/v1/projects/default/datasets/pets/versions/1/items/{task['item_id']}/image"
    assert task["image_url"] == path


def test_items_are_asked_before_all_are_imported(world: Any) -> None:
    world.dataset()
    spec = {
        "dataset": {"name": "pets", "version": 1},
        "labels": ["cat", "dog", "eel"],
        "target": {"error": "0.1", "confidence": "0.9"},
        "budget": {"maxHumanLabels": "100"},
    }
    jobs = "/api/v1/projects/default/labeling-jobs"
    made = world.manager().post(jobs, json={"name": "pets", "spec": spec})
    assert made.status_code == 201
    client = world.person()
    early = client.post("/api/v1/projects/default/labeling-jobs/pets/tasks/next", json={}).json()
    assert early["tasks"] == []
    assert (early["waiting"], early["state"]) == ("Importing", "importing")


def test_a_lease_belongs_to_one(world: Any) -> None:
    job = world.job()
    first, second = job.next("ann", count=20), job.next("bob", count=20)
    taken = [task["item_id"] for task in first["tasks"] + second["tasks"]]
    assert len(taken) == len(set(taken)) == 40
    assert job.next("cid")["waiting"] == "OthersWork"


def test_leases_are_limited_per_client(world: Any) -> None:
    job = world.job()
    assert len(job.next(count=20, client="tab-1")["tasks"]) == 20
    assert len(job.next(count=20, client="tab-1")["tasks"]) == 5
    assert job.next(count=1, client="tab-1")["waiting"] == "LeaseLimit"
    assert len(job.next(count=20, client="tab-2")["tasks"]) == 15


def test_fresh_gives_back_what_the_client_held(world: Any) -> None:
    job = world.job()
    before = job.next(count=10, client="tab-1")["tasks"]
    other = job.next(count=5, client="tab-2")["tasks"]
    again = job.next(count=10, client="tab-1", fresh=True)["tasks"]
    assert [task["item_id"] for task in again] == [task["item_id"] for task in before]
    assert not {task["lease"] for task in again} & {task["lease"] for task in before}
    assert not {task["item_id"] for task in again} & {task["item_id"] for task in other}


def test_expired_leases_go_to_whoever_asks(world: Any) -> None:
    job = world.job()
    mine = {task["item_id"] for task in job.next("ann", count=25)["tasks"]}
    world.clock.sleep(599)
    assert not mine & {task["item_id"] for task in job.next("bob", count=15)["tasks"]}
    world.clock.sleep(2)
    assert mine == {task["item_id"] for task in job.next("cid", count=25)["tasks"]}


def test_leases_are_extended_and_given_back(world: Any) -> None:
    job = world.job()
    tasks = job.next("ann", count=3)["tasks"]
    leases = [task["lease"] for task in tasks]
    world.clock.sleep(500)
    client = world.person("ann")
    answer = client.post(f"{job.path}/tasks/leases", json={"leases": leases[:2]}).json()
    assert answer["extended"] == sorted(leases[:2])
    world.clock.sleep(200)
    assert {tasks[2]["item_id"]} == {task["item_id"] for task in job.next("bob")["tasks"]}
    body = {"leases": leases, "release": leases[:1]}
    assert client.post(f"{job.path}/tasks/leases", json=body).json()["extended"] == [leases[1]]
    assert job.next("cid")["tasks"][0]["item_id"] == tasks[0]["item_id"]
    stranger = world.person("bob").post(f"{job.path}/tasks/leases", json={"leases": leases[1:2]})
    assert stranger.json()["extended"] == []


def test_named_annotators_only(world: Any) -> None:
    job = world.job(review={"annotators": ["ann"]})
    assert job.next("ann")["tasks"]
    answer = world.person("bob").post(f"{job.path}/tasks/next", json={})
    assert answer.status_code == 403
    assert "bob is not among the annotators of this job: ann" in answer.json()["detail"]


def test_a_budget_is_never_leased_away_twice(world: Any) -> None:
    job = world.job(
        target={"error": "0.1", "confidence": "0.9", "random": "25"},
        budget={"maxHumanLabels": "30"},
    )
    assert len(job.next("ann", count=25)["tasks"]) == 25
    assert job.next("bob", count=25)["waiting"] == "OthersWork"


def test_a_suspended_job_gives_no_tasks_but_takes_answers(world: Any) -> None:
    job = world.job()
    task = job.next()["tasks"][0]
    manager = world.manager()
    assert manager.post(f"{job.path}/suspend").status_code == 202
    assert job.next()["waiting"] == "Suspended"
    assert job.send(job.answer(task))[0]["outcome"] == "accepted"
    assert manager.post(f"{job.path}/resume").status_code == 202
    assert job.next()["tasks"]


def test_waiting_ends_when_a_task_appears(world: Any, at_once: Callable[..., list[Any]]) -> None:
    job = world.job()
    assert job.label() == "RoundRunning"
    started = threading.Event()

    def compute() -> None:
        started.wait(10)
        job.compute()

    def ask() -> Any:
        started.set()
        return job.next(wait_s=30)

    batch, _ = at_once(ask, compute)
    assert batch["tasks"][0]["purpose"] == "chosen"


def test_waiting_makes_no_sense_for_a_spent_budget(world: Any) -> None:
    job = world.job()
    job.finish()
    assert job.next(wait_s=30)["waiting"] == "Finished"


@pytest.mark.parametrize("users", [("ann", "bob"), ("ann", "ann")], ids=["two people", "two tabs"])
def test_concurrent_annotators_never_share_a_task_and_lose_none(
    world: Any, at_once: Callable[..., list[Any]], users: tuple[str, str]
) -> None:
    job = world.job(strategy={"batch": "10", "lookahead": 1})
    seen: list[str] = []
    sent = [0, 0]

    def annotate(place: int, user: str) -> None:
        while True:
            batch = job.next(user, count=3, client=f"tab-{place}")
            if batch["waiting"] == "OthersWork":
                continue
            if not batch["tasks"]:
                return
            seen.extend(task["slot_id"] for task in batch["tasks"])
            answers = [
                job.answer(task, client_id=f"{user}-{place}-{task['slot_id']}")
                for task in batch["tasks"]
            ]
            outcomes = [result["outcome"] for result in job.send(*answers, user=user)]
            assert outcomes == ["accepted"] * len(answers)
            sent[place] += len(answers)

    for _ in range(2):
        at_once(*(lambda p=place, u=user: annotate(p, u) for place, user in enumerate(users)))
        job.compute()
    at_once(*(lambda p=place, u=user: annotate(p, u) for place, user in enumerate(users)))
    assert [item for item, count in Counter(seen).items() if count > 1] == []
    assert min(sent) > 0
    stats = job.get("stats")
    assert stats["human"] == stats["decisions"] == sum(sent)
    assert sum(stats["by_author"].values()) == sum(sent)


def test_who_has_what_is_left(world: Any) -> None:
    job = world.job()
    assert len(job.next("ann", count=25, client="tab-1")["tasks"]) == 25
    assert len(job.next("ann", count=15, client="tab-2")["tasks"]) == 15
    assert job.next("ann", client="tab-3")["waiting"] == "HeldByYou"
    assert job.next("bob")["waiting"] == "OthersWork"
    again = job.next("ann", count=25, client="tab-1", fresh=True)
    assert len(again["tasks"]) == 25
    assert len(job.next("bob", count=25)["tasks"]) == 0
