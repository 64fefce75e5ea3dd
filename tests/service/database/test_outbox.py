"""The outbox under writers that commit at the same time: nothing is skipped, on either database."""

from __future__ import annotations

import pathlib
import random
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from quintile.adapters import outbox, sql
from quintile.core import meta
from quintile.testing import databases

METADATA = sa.MetaData(naming_convention=sql.NAMING)
ROWS = outbox.table(METADATA)
NAMES = sa.Table("names", METADATA, sa.Column("name", sa.String(16), primary_key=True))
WRITERS, EACH = 6, 25


@pytest.fixture
def database(tmp_path: pathlib.Path) -> Iterator[sql.Database]:
    made = sql.Database(sql.create_engine(databases.at(tmp_path / "a.db")))
    METADATA.create_all(made.engine)
    yield made
    made.dispose()
    databases.drop(tmp_path / "a.db")


def key(name: str) -> meta.Key:
    return meta.Key("Trial", "default", name)


def test_a_tail_sees_every_change_once_in_order(database: sql.Database) -> None:
    changes = outbox.Outbox(database, ROWS)
    seed = random.randrange(2**32)

    def write(number: int) -> None:
        chance = random.Random(seed + number)
        for n in range(EACH):
            with database.write() as session:
                name = f"{number}-{n}"
                changes.append(session, *key(name))
                # Work after the note, of unequal length, so that commits overtake each other.
                for m in range(chance.randrange(4)):
                    session.execute(NAMES.insert().values(name=f"{name}-{m}"))
                if chance.random() < 0.1:
                    session.rollback()

    cursor = changes.cursor()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    seen: list[meta.Key] = []
    while any(thread.is_alive() for thread in threads):
        found = changes.changed(cursor, wait_s=0.02)
        cursor = found.cursor
        seen += found.keys
    seen += changes.read(cursor).keys
    with database.read() as session:
        stored = session.scalars(sa.select(ROWS.c.name).order_by(ROWS.c.seq)).all()
    assert [found.name for found in seen] == list(stored), f"seed {seed}"
    assert len(stored) > WRITERS * EACH // 2


def test_what_is_rolled_back_was_never_said(database: sql.Database) -> None:
    changes = outbox.Outbox(database, ROWS)
    cursor = changes.cursor()
    with pytest.raises(RuntimeError), database.write() as session:
        changes.append(session, *key("a"))
        raise RuntimeError
    with database.write() as session:
        changes.append(session, *key("b"))
        changes.append(session, *key("b"))
    assert changes.read(cursor).keys == (key("b"),)


def test_writers_that_meet_on_a_row_do_not_lock_each_other_out(database: sql.Database) -> None:
    """One notes first and then takes the row, the other the other way round."""
    changes = outbox.Outbox(database, ROWS)
    with database.write() as session:
        session.execute(NAMES.insert().values(name="shared"))
    row = sa.select(NAMES.c.name).where(NAMES.c.name == "shared").with_for_update()
    begun = threading.Barrier(2)
    failed: list[BaseException] = []

    def write(note_first: bool) -> None:
        try:
            for n in range(10):
                begun.wait(30)
                with database.write() as session:
                    if note_first:
                        changes.append(session, *key(f"{note_first}-{n}"))
                        session.execute(row)
                    else:
                        session.execute(row)
                        changes.append(session, *key(f"{note_first}-{n}"))
        except BaseException as error:
            failed.append(error)
            begun.abort()
            raise

    threads = [threading.Thread(target=write, args=(first,)) for first in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert len(changes.read("0").keys) == 20
