"""Facts: the fake and the joined readers of one process keep the contract."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from quintile import ports
from quintile.adapters import outbox, signals, sql
from quintile.core import errors, facts, meta
from quintile.testing import facts as fake_facts
from quintile_api import facts as api_facts
from quintile_api import tables as api_tables
from quintile_embedded import facts as joined

TRIAL = meta.Key("Trial", "default", "digits-t0")
JOB = meta.Key("LabelingJob", "default", "parts")


@dataclass
class Subject:
    """Facts, and a way to let something happen to a key."""

    facts: ports.Facts
    happen: Callable[[meta.Key], None]


class Contract:
    """What all Facts do; a subclass gives the fixture ``subject``."""

    def test_the_first_cursor_is_now_and_brings_no_keys(self, subject: Subject) -> None:
        subject.happen(TRIAL)
        first = subject.facts.changed("", wait_s=5)
        assert first.keys == ()
        assert first.cursor
        assert subject.facts.changed(first.cursor, wait_s=0) == first

    def test_changes_come_in_order_and_equal_keys_once(self, subject: Subject) -> None:
        cursor = subject.facts.changed("", wait_s=0).cursor
        for _ in range(3):
            subject.happen(TRIAL)
        subject.happen(JOB)
        changes = subject.facts.changed(cursor, wait_s=0)
        assert sorted(changes.keys) == sorted((TRIAL, JOB))
        assert subject.facts.changed(changes.cursor, wait_s=0).keys == ()
        # At least once: an old cursor tells it all again.
        assert set(subject.facts.changed(cursor, wait_s=0).keys) == {TRIAL, JOB}

    @pytest.mark.parametrize("key", [TRIAL, JOB], ids=["trial", "job"])
    def test_waiting_ends_when_something_happens(self, subject: Subject, key: meta.Key) -> None:
        cursor = subject.facts.changed("", wait_s=0).cursor
        timer = threading.Timer(0.05, subject.happen, [key])
        timer.start()
        changes = subject.facts.changed(cursor, wait_s=30)
        timer.join()
        assert changes.keys == (key,)

    def test_what_nobody_spoke_of_is_empty(self, subject: Subject) -> None:
        assert subject.facts.trial("unknown") == facts.TrialFacts(uid="unknown")
        assert subject.facts.job("unknown") is None


class TestFake(Contract):
    @pytest.fixture
    def subject(self) -> Subject:
        fake = fake_facts.FakeFacts()

        def happen(key: meta.Key) -> None:
            if key.kind == "Trial":
                fake.put_trial(key, facts.TrialFacts(uid="t1", attempt=1))
            else:
                fake.put_job(key, facts.JobFacts(uid="j1", state="labeling"))

        return Subject(fake, happen)

    def test_a_job_is_admitted_once(self) -> None:
        fake = fake_facts.FakeFacts()
        document = {"kind": "LabelingJob", "metadata": {"name": "parts", "uid": "j1"}}
        assert fake.admit(document) == fake.admit(document) == fake.job("j1")

    def test_a_refusal_and_absence_are_raised(self) -> None:
        fake = fake_facts.FakeFacts()
        fake.refusal = errors.InvalidSpec("no such dataset")
        with pytest.raises(errors.InvalidSpec):
            fake.admit({"kind": "LabelingJob", "metadata": {"name": "parts", "uid": "j1"}})
        fake.away = True
        with pytest.raises(errors.Unavailable):
            fake.trial("t1")


class TestJoined(Contract):
    @pytest.fixture
    def subject(self, tmp_path: pathlib.Path) -> Subject:
        bell = signals.Signal()
        database, changes = half(tmp_path / "api.db", api_tables.Base.metadata, bell)
        other, others = half(tmp_path / "labeling.db", None, bell)
        boxes = {"Trial": (database, changes), "LabelingJob": (other, others)}

        def happen(key: meta.Key) -> None:
            where, box = boxes[key.kind]
            with where.write() as session:
                box.append(session, *key)

        trials = api_facts.TrialFactsReader(database, changes)
        return Subject(joined.JoinedFacts(trials, Jobs(others), bell=bell), happen)


class Jobs:
    """The labeling service's half with an outbox of its own and no jobs."""

    def __init__(self, changes: outbox.Outbox) -> None:
        self._changes = changes

    def changed(self, since: str, *, wait_s: float) -> facts.Changes:
        return self._changes.changed(since, wait_s=wait_s)

    def job(self, _uid: str) -> facts.JobFacts | None:
        return None

    def admit(self, document: meta.Document) -> facts.JobFacts:
        raise errors.Unavailable(f"{meta.key_of(document)} cannot be taken.")


def half(
    path: pathlib.Path, metadata: sa.MetaData | None, bell: signals.Signal
) -> tuple[sql.Database, outbox.Outbox]:
    engine = sql.create_engine(f"sqlite:///{path}")
    if metadata is None:
        metadata = sa.MetaData()
        rows = outbox.table(metadata)
    else:
        rows = api_tables.OUTBOX
    metadata.create_all(engine)
    database = sql.Database(engine)
    changes = outbox.Outbox(database, rows)
    changes.ring(bell)
    return database, changes
