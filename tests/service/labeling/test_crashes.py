"""A process may end between any two steps: the next one goes on from the rows."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from quintile.core import errors, facts, meta
from quintile_labeling import context, tables
from quintile_labeling import facts as labeling_facts
from quintile_labeling.work import exporting, importing, storing, sweeping


class Killed(BaseException):
    """The process ends here; nothing in it catches this."""


def job_id(world: Any) -> int:
    with world.ctx.database.read() as session:
        return int(context.job_named(session, "default", "pets").id)


def labels_of(world: Any) -> list[tuple[str, str, str]]:
    _, rows = next(iter(world.catalog.made.values()))
    return sorted((row.item_id, row.label, row.source) for row in rows)


def undisturbed(world: Any) -> list[tuple[str, str, str]]:
    """What the export of an undisturbed job holds; ids are hashes, so runs are comparable."""
    job = world.job()
    job.finish()
    found = labels_of(world)
    world.catalog.made.clear()
    world.manager().delete(job.path)
    world.work()
    return found


def test_a_restart_after_every_step_changes_nothing(world: Any) -> None:
    wanted = undisturbed(world)
    del world.catalog._versions[("default", "pets", 2)]
    job = world.job()
    for _ in range(100):
        world.restart()
        world.work()
        world.restart()
        if job.known.state == "exported":
            break
        waiting = job.label(limit=10)
        world.restart()
        world.work()
        if waiting == "RoundRunning":
            worker = job.worker()
            body = worker.result()
            world.restart()
            job.worker().hand_in(body)
    assert labels_of(world) == wanted
    stats = job.get("stats")
    assert stats["human"] == stats["decisions"] == len(job.sent)


def kill_at_commit(world: Any, number: int) -> None:
    """Let the process end right before its ``number``-th commit from now on."""
    left = [number]

    def count(_link: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    sa.event.listen(world.ctx.database.engine, "commit", count)


def test_killed_before_any_commit_of_an_import(world: Any) -> None:
    world.dataset(6_000)
    jobs = "/api/v1/projects/default/labeling-jobs"
    body = {"name": "pets", "spec": spec_of()}
    assert world.manager().post(jobs, json=body).status_code == 201
    one = job_id(world)
    for number in (1, 2, 3, 4, 5):
        kill_at_commit(world, number)
        with pytest.raises(Killed):
            importing.import_items(world.ctx, one)
        world.restart()
    importing.import_items(world.ctx, one)
    with world.ctx.database.read() as session:
        rows = session.query(tables.Item).order_by(tables.Item.item_id).all()
        assert [row.ordinal for row in rows] == list(range(6_000))
        ranks = sorted(row.random_rank for row in rows if row.random_rank is not None)
        assert ranks == list(range(40))
        assert session.query(tables.Slot).count() == 40
        assert context.job_named(session, "default", "pets").stage == "ready"


def test_random_items_are_served_while_the_others_still_come_in(world: Any) -> None:
    world.dataset(6_000)
    jobs = "/api/v1/projects/default/labeling-jobs"
    body = {"name": "pets", "spec": spec_of()}
    assert world.manager().post(jobs, json=body).status_code == 201
    kill_at_commit(world, 2)
    with pytest.raises(Killed):
        importing.import_items(world.ctx, job_id(world))
    world.restart()
    job = world.known_job("pets")
    assert job.label() == "Importing"
    assert job.known.state == "importing"
    assert job.get("stats")["random_settled"] == 40
    world.work()
    job.compute()
    assert job.next()["tasks"][0]["purpose"] == "chosen"


def test_killed_between_the_store_and_the_row_of_a_manifest(world: Any) -> None:
    job = world.job()
    job.compute()
    job.label()
    one, written = job_id(world), []
    put = world.objects.put

    def die(key: str, data: Any, **of: Any) -> Any:
        put(key, data, **of)
        written.append((key, data))
        raise Killed

    world.objects.put = die
    with pytest.raises(Killed):
        storing.store_manifest(world.ctx, one)
    world.objects.put = put
    world.restart()
    assert job.known.rounds[-1].state == "collecting"
    fact = job.closed()
    assert written == [(fact.manifest_key, world.objects.get(fact.manifest_key))]


def test_killed_between_the_version_and_the_row_of_an_export(world: Any) -> None:
    job = world.job()
    one, create = job_id(world), world.catalog.create_version

    def die(*given: Any) -> Any:
        create(*given)
        raise Killed

    world.catalog.create_version = die
    with pytest.raises(Killed):
        job.finish()
    world.catalog.create_version = create
    world.restart()
    assert job.known.state == "exporting"
    exporting.export(world.ctx, one)
    exporting.export(world.ctx, one)
    assert job.known.state == "exported"
    assert len(world.catalog.made) == 1


def test_work_that_fails_is_noted_and_tried_again(world: Any) -> None:
    job = world.job()
    create = world.catalog.create_version

    def fail(*_given: Any) -> Any:
        world.catalog.create_version = create
        raise errors.Unavailable("The API is away.")

    world.catalog.create_version = fail
    for _ in range(30):
        waiting = job.label(limit=25)
        if job.known.problem:
            break
        world.work()
        if waiting == "RoundRunning" and job.known.rounds[-1].state == "closed":
            job.compute()
    known = job.known
    assert (known.state, known.problem) == ("exporting", "The API is away.")
    assert job.get("stats")["problem"] == "The API is away."
    world.work()
    assert job.known.state == "exporting"
    world.clock.sleep(6)
    world.work()
    assert (job.known.state, job.known.problem) == ("exported", "")


def test_a_defect_in_one_job_does_not_end_the_work_on_others(world: Any) -> None:
    world.dataset()
    items = world.catalog.items
    world.catalog.items = lambda *_: 1 / 0
    body = {"name": "broken", "spec": spec_of()}
    jobs = "/api/v1/projects/default/labeling-jobs"
    assert world.manager().post(jobs, json=body).status_code == 201
    world.work()
    world.catalog.items = items
    other = world.job("other")
    assert other.known.state == "labeling"
    broken = world.person("vic", "viewer").get(f"{jobs}/broken/stats").json()
    assert "nobody foresaw" in broken["problem"]


def spec_of() -> dict[str, Any]:
    return {
        "dataset": {"name": "pets", "version": 1},
        "labels": ["cat", "dog", "eel"],
        "target": {"error": "0.1", "confidence": "0.9", "random": "40"},
        "budget": {"maxHumanLabels": "100"},
    }


def test_the_outbox_tells_of_every_change(world: Any) -> None:
    reader = world.facts
    cursor = reader.changed("", wait_s=0).cursor
    job = world.job()

    def changed() -> bool:
        nonlocal cursor
        found = reader.changed(cursor, wait_s=0)
        cursor = found.cursor
        return [str(key) for key in found.keys] == ["LabelingJob default/pets"]

    assert changed()
    assert not changed()
    task = job.next()["tasks"][0]
    assert not changed()
    job.send(job.answer(task))
    assert changed()
    job.undo(task["item_id"])
    assert changed()
    job.compute()
    assert changed()


def test_a_closed_round_is_told_only_once_its_manifest_is_stored(world: Any) -> None:
    job = world.job()
    job.compute()
    job.label()
    assert job.known.rounds[-1] == facts.RoundFact(1, "learn", "collecting")
    world.work()
    assert job.known.rounds[-1].state == "closed"
    assert job.known.rounds[-1].manifest_sha256


def rows_left(world: Any, one: int) -> int:
    with world.ctx.database.read() as session:
        return sum(
            session.query(table).filter(table.job_id == one).count()
            for table in (tables.Item, tables.Slot, tables.Lease, tables.Round, tables.Annotation)
        )


def test_a_deleted_job_leaves_nothing(world: Any) -> None:
    job, other = world.job(), world.job("other")
    job.closed()
    job.label(3)
    one, prefix = job_id(world), f"rounds/{job.uid}/"
    assert list(world.objects.list(prefix))
    assert world.manager().delete(job.path).status_code == 204
    sweeping.purge(world.ctx)
    assert not list(world.objects.list(prefix))
    assert rows_left(world, one) == 0
    assert other.known.items == 120


def test_a_job_whose_resource_is_missed_is_kept_for_a_week(world: Any) -> None:
    job, other = world.job(), world.job("other")
    job.label(3)
    key = meta.Key("LabelingJob", "default", "pets")
    document, one = world.resources.get(key), job_id(world)
    world.resources.delete(key)
    sweeping.mark_gone(world.ctx)
    sweeping.purge(world.ctx)
    assert world.facts.job(document["metadata"]["uid"]) is None
    assert other.known.items == 120
    assert world.facts.admit(document).human == 3
    sweeping.mark_gone(world.ctx)
    world.clock.sleep(sweeping.GRACE_S + 1)
    sweeping.purge(world.ctx)
    assert rows_left(world, one) == 0


def test_the_threads_do_it_all(world: Any) -> None:
    world.dataset()
    world.app.state.background.start()
    world.app.state.background.start()
    body = {"name": "pets", "spec": spec_of()}
    jobs = "/api/v1/projects/default/labeling-jobs"
    made = world.manager().post(jobs, json=body)
    assert made.status_code == 201
    batch = world.person().post(f"{jobs}/pets/tasks/next", json={}, params={"wait_s": 20}).json()
    assert batch["tasks"]
    reader = labeling_facts.JobFactsReader(world.ctx)
    uid, cursor = made.json()["metadata"]["uid"], "0"
    for _ in range(100):
        known = reader.job(uid)
        if known.rounds and known.rounds[0].state == "closed":
            break
        cursor = reader.changed(cursor, wait_s=1).cursor
    assert known.rounds[0].state == "closed"
    world.app.state.background.stop()
    world.app.state.background.stop()
