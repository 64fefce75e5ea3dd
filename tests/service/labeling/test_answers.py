"""What becomes of answers: repeats, revisions, late ones, undo, second opinions."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from quintile_labeling import tables
from quintile_labeling.answers import projection


def standing(world: Any) -> dict[str, str]:
    with world.ctx.database.read() as session:
        rows = session.execute(sa.select(tables.Annotation.id, tables.Annotation.standing))
        return {row[0]: row[1] for row in rows}


def check_projection(world: Any) -> None:
    """Settlements and tallies equal what the events alone give."""

    def picture(session: Any) -> Any:
        job = session.scalars(sa.select(tables.Job)).one()
        tallies = [
            getattr(job, name)
            for name in (
                "decisions",
                "spent",
                "human",
                "auto",
                "random_settled",
                "chosen_settled",
                "others_settled",
                "batch_left",
            )
        ]
        query = sa.select(tables.Settlement).order_by(tables.Settlement.item_id)
        settled = [
            (row.item_id, row.rule, row.annotation_id, row.class_id, row.verdict)
            for row in session.scalars(query)
        ]
        notes = session.execute(
            sa.select(tables.Annotation.id, tables.Annotation.standing).order_by(
                tables.Annotation.id
            )
        )
        return tallies, settled, [tuple(row) for row in notes]

    with world.ctx.database.write() as session:
        before = picture(session)
        projection.rebuild(session, session.scalars(sa.select(tables.Job)).one())
        session.expire_all()
        assert picture(session) == before


def test_an_equal_client_id_is_the_same_answer(world: Any) -> None:
    job = world.job()
    answer = job.answer(job.next()["tasks"][0])
    first, again = job.send(answer)[0], job.send(answer)[0]
    assert (first["outcome"], again["outcome"]) == ("accepted", "repeated")
    assert first["revision"] == again["revision"] == 1
    both = job.send(job.answer(job.next()["tasks"][0]), answer)
    assert [one["outcome"] for one in both] == ["accepted", "repeated"]
    assert job.get("stats")["decisions"] == 2
    other = job.send(answer, user="bob")[0]
    assert other["outcome"] == "refused"
    assert "another person" in other["problem"]


def test_a_correction_replaces_and_costs_nothing(world: Any) -> None:
    job = world.job()
    task = job.next()["tasks"][0]
    assert job.send(job.answer(task, payload={"labels": [0]}))[0]["revision"] == 1
    corrected = job.send(job.answer(task, payload={"labels": [1]}, base_revision=1))[0]
    assert (corrected["outcome"], corrected["revision"]) == ("accepted", 2)
    stats = job.get("stats")
    assert (stats["decisions"], stats["spent"], stats["human"]) == (2, 1, 1)
    assert stats["by_class"] == {"cat": 0, "dog": 1, "eel": 0}
    check_projection(world)


def test_a_stale_base_keeps_both_revisions(world: Any) -> None:
    job = world.job()
    task = job.next()["tasks"][0]
    job.send(job.answer(task, payload={"labels": [0]}))
    late = job.send(job.answer(task, payload={"labels": [1]}, base_revision=0))[0]
    assert (late["outcome"], late["revision"]) == ("stale", 1)
    assert sorted(standing(world).values()) == ["head", "stale"]
    assert job.get("stats")["by_class"]["cat"] == 1
    check_projection(world)


def test_a_late_answer_counts_while_nobody_took_the_slot(world: Any) -> None:
    job = world.job()
    task = job.next("ann")["tasks"][0]
    world.clock.sleep(3600)
    assert job.send(job.answer(task))[0]["outcome"] == "accepted"


def test_a_late_answer_to_an_open_slot_counts(world: Any) -> None:
    job = world.job()
    task = job.next("ann")["tasks"][0]
    world.clock.sleep(3600)
    others = job.next("bob", count=1)["tasks"][0]
    assert others["item_id"] == task["item_id"]
    release = {"release": [others["lease"]]}
    world.person("bob").post(f"{job.path}/tasks/leases", json=release)
    assert job.send(job.answer(task))[0]["outcome"] == "accepted"


@pytest.mark.parametrize("answered", [True, False], ids=["answered by bob", "held by bob"])
def test_a_late_answer_to_a_taken_slot_is_an_extra_opinion(world: Any, answered: bool) -> None:
    job = world.job()
    task = job.next("ann")["tasks"][0]
    world.clock.sleep(3600)
    taken = job.next("bob", count=1)["tasks"][0]
    assert taken["item_id"] == task["item_id"]
    if answered:
        job.send(job.answer(taken), user="bob")
    assert job.send(job.answer(task))[0]["outcome"] == "extra"
    if not answered:
        job.send(job.answer(taken), user="bob")
    assert sorted(standing(world).values()) == ["extra", "head"]
    stats = job.get("stats")
    assert (stats["human"], stats["random_settled"], stats["spent"]) == (1, 1, 2)
    check_projection(world)


def test_a_differing_extra_opinion_goes_to_a_third_person(world: Any) -> None:
    job = world.job()
    task = job.next("ann")["tasks"][0]
    world.clock.sleep(3600)
    taken = job.next("bob", count=1)["tasks"][0]
    job.send(job.answer(taken, payload={"labels": [1]}), user="bob")
    job.send(job.answer(task, payload={"labels": [2]}))
    assert job.get("stats")["random_settled"] == 0
    for name in ("ann", "bob"):
        assert job.next(name)["tasks"][0]["item_id"] != task["item_id"]
    third = job.next("cid")["tasks"][0]
    assert (third["item_id"], third["purpose"]) == (task["item_id"], "adjudicate")
    assert third["suggestion"] is None
    job.send(job.answer(third, payload={"labels": [0]}), user="cid")
    stats = job.get("stats")
    assert (stats["random_settled"], stats["by_class"]["cat"]) == (1, 1)
    check_projection(world)


def test_undo_is_a_new_event_and_frees_the_slot(world: Any) -> None:
    job = world.job()
    task = job.next()["tasks"][0]
    job.send(job.answer(task))
    undone = job.undo(task["item_id"])
    assert undone.status_code == 200
    assert undone.json()["revision"] == 2
    stats = job.get("stats")
    assert (stats["human"], stats["spent"], stats["decisions"]) == (0, 0, 1)
    again = job.next()["tasks"][0]
    assert (again["item_id"], again["base_revision"]) == (task["item_id"], 2)
    assert job.send(job.answer(again))[0]["revision"] == 3
    kinds = [step["kind"] for step in job.get(f"items/{task['item_id']}/why")["steps"]]
    assert kinds.count("answer") == 2
    assert kinds.count("undo") == 1
    check_projection(world)


def test_undo_restores_the_answer_before(world: Any) -> None:
    job = world.job()
    task = job.next()["tasks"][0]
    job.send(job.answer(task, payload={"labels": [0]}))
    job.send(job.answer(task, payload={"labels": [1]}, base_revision=1))
    assert job.undo(task["item_id"]).json()["revision"] == 3
    assert job.get("stats")["by_class"] == {"cat": 1, "dog": 0, "eel": 0}
    assert job.undo(task["item_id"]).status_code == 200
    assert job.get("stats")["human"] == 0
    assert job.undo(task["item_id"]).status_code == 404
    check_projection(world)


def test_undo_is_idempotent_and_only_for_ones_own(world: Any) -> None:
    job = world.job()
    task = job.next()["tasks"][0]
    job.send(job.answer(task))
    assert job.undo(task["item_id"], user="bob").status_code == 404
    body = {"client_id": "undo-the-first", "item_id": task["item_id"]}
    client = world.person("ann")
    first = client.post(f"{job.path}/annotations/undo", json=body).json()
    again = client.post(f"{job.path}/annotations/undo", json=body).json()
    assert (first["outcome"], again["outcome"]) == ("accepted", "repeated")


def test_verdicts_settle_without_a_class(world: Any) -> None:
    job = world.job()
    tasks = job.next(count=4)["tasks"]
    verdicts = ("skip", "unsure", "unreadable", "other")
    results = job.send(
        *(
            job.answer(task, payload={"verdict": verdict})
            for task, verdict in zip(tasks, verdicts, strict=True)
        )
    )
    assert [result["outcome"] for result in results] == ["accepted"] * 4
    stats = job.get("stats")
    assert (stats["human"], stats["random_settled"]) == (4, 4)
    assert sum(stats["by_class"].values()) == 0
    sources = {
        item["item_id"]: item["source"] for item in job.get("items", params={"limit": 500})["items"]
    }
    assert {sources[task["item_id"]] for task in tasks} == {"none"}


def test_two_people_answer_an_overlap_item_blind(world: Any) -> None:
    job = world.job(review={"overlap": "100%"})
    mine = {task["item_id"] for task in job.next("ann", count=25)["tasks"]}
    theirs = job.next("bob", count=25)["tasks"]
    assert mine & {task["item_id"] for task in theirs}
    assert all(task["suggestion"] is None for task in theirs)
    for name in ("ann", "bob"):
        world.clock.sleep(3600)
        job.label(user=name)
    stats = job.get("stats")
    assert stats["random_settled"] == 40
    assert stats["decisions"] == 80
    check_projection(world)


def test_one_person_alone_cannot_give_second_opinions(world: Any) -> None:
    job = world.job(review={"overlap": "100%"})
    assert job.label() == "SecondOpinion"
    assert job.get("stats")["random_settled"] == 0
    assert job.get("stats")["human"] == 40


def test_the_certificate_says_how_often_people_differ(world: Any) -> None:
    job = world.job(review={"overlap": "100%"}, budget={"maxHumanLabels": "120"})
    for _ in range(6):
        for name in ("ann", "bob"):
            job.label(user=name)
        world.work()
        if job.known.rounds[-1].state == "closed":
            job.compute()
    line = job.get("certificate")["lines"][1]
    assert line.startswith("Human part: of 40 random items answered twice, blind, 0 differed")


def test_answers_after_the_export_are_kept_and_change_nothing(world: Any) -> None:
    job = world.job()
    task = job.next()["tasks"][0]
    job.send(job.answer(task))
    job.finish()
    before = job.get("stats")
    late = job.send(job.answer(task, payload={"labels": [2]}, base_revision=1))[0]
    assert late["outcome"] == "stale"
    assert "exported" in late["problem"]
    after = job.get("stats")
    assert after["decisions"] == before["decisions"] + 1
    assert {**after, "decisions": 0} == {**before, "decisions": 0}
    undone = job.undo(task["item_id"])
    assert undone.status_code == 409
    assert "its answers stand" in undone.json()["detail"]


def test_a_changed_random_answer_makes_the_certificate_stale(world: Any) -> None:
    job = world.job(budget={"maxHumanLabels": "100", "maxRounds": 1})
    tasks = job.next(count=25)["tasks"]
    job.send(*(job.answer(task) for task in tasks))
    job.reach("covering")
    assert not job.get("certificate")["stale"]
    task = tasks[0]
    wrong = {"labels": [(job.answer(task)["payload"]["labels"][0] + 1) % 3]}
    assert job.send(job.answer(task, payload=wrong, base_revision=1))[0]["outcome"] == "accepted"
    view = job.get("certificate")
    assert view["stale"]
    assert view["outcome"] == "Uncertified"
    assert "has changed" in view["lines"][-1]
    assert job.known.outcome == "Uncertified"
    assert job.known.certified_error is None
    job.undo(task["item_id"])
    assert not job.get("certificate")["stale"]
    check_projection(world)


def test_the_projection_can_be_rebuilt_after_a_whole_life(world: Any) -> None:
    job = world.job(strategy={"batch": "10", "lookahead": 1}, review={"overlap": "10%"})
    for _ in range(12):
        for name in ("ann", "bob"):
            job.label(user=name)
            check_projection(world)
        world.work()
        if job.known.state == "exported":
            break
        if job.known.rounds[-1].state == "closed":
            job.compute()
            check_projection(world)
    assert job.known.state == "exported"
