"""The API's own thread: it ticks, survives a database that is away, and tidies up."""

from __future__ import annotations

import threading
from typing import Any

import sqlalchemy as sa

from quintile.core import errors
from quintile_api import background, housekeeping, tables


def test_a_tick_that_fails_is_tried_again_and_holds_up_no_other() -> None:
    tried, other = threading.Semaphore(0), threading.Semaphore(0)

    def failing() -> None:
        tried.release()
        raise errors.Unavailable("The database is away.")

    work = background.Background((failing, other.release), every_s=0.001)
    work.start()
    work.start()
    for _ in range(3):
        assert tried.acquire(timeout=30)
        assert other.acquire(timeout=30)
    work.stop()
    work.stop()


def test_what_has_expired_is_forgotten_once_an_hour(world: Any) -> None:
    world.browser()
    kept = world.browser()
    tidy = housekeeping.Housekeeping(
        database=world.ctx.database, changes=world.ctx.outbox, clock=world.clock, holder="a"
    )

    def sessions() -> int:
        with world.ctx.database.read() as session:
            count = session.scalar(sa.select(sa.func.count()).select_from(tables.Session))
        return count or 0

    tidy.tick()
    assert sessions() == 2
    world.clock.sleep(11 * 3600)
    fresh = world.browser()
    tidy.tick()
    assert sessions() == 3
    world.clock.sleep(2 * 3600)
    assert kept.get("/api/v1/me").status_code == 401
    tidy.tick()
    assert sessions() == 1
    assert fresh.get("/api/v1/me").status_code == 200


def test_stopping_the_background_writes_the_last_heartbeats(world: Any, trial: Any) -> None:
    first, second = trial.agents()
    first.join()
    second.join()
    first.join()
    first.beat(step=1)
    world.app.state.background.start()
    world.app.state.background.stop()
    assert world.facts.trial(trial.uid).step == 1
