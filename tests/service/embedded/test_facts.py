"""Both halves of the facts behind one cursor."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from quintile.adapters import facts_joined as joined
from quintile.adapters import signals
from quintile.core import errors, facts, meta

TRIAL = meta.Key("Trial", "default", "t")
JOB = meta.Key("LabelingJob", "default", "j")


@dataclass
class Half:
    """An outbox in memory: both halves of the port, of which a test uses one."""

    bell: signals.Signal
    keys: list[meta.Key] = field(default_factory=list)

    def append(self, key: meta.Key) -> None:
        self.keys.append(key)
        self.bell.notify()

    def changed(self, since: str, *, wait_s: float) -> facts.Changes:
        assert wait_s == 0
        start = int(since) if since else len(self.keys)
        return facts.Changes(keys=tuple(self.keys[start:]), cursor=str(len(self.keys)))

    def trial(self, uid: str) -> facts.TrialFacts:
        return facts.TrialFacts(uid=uid, step=7)

    def job(self, uid: str) -> facts.JobFacts | None:
        return facts.JobFacts(uid=uid, state="labeling")

    def admit(self, document: meta.Document) -> facts.JobFacts:
        return facts.JobFacts(uid=document["metadata"]["uid"], state="importing")


@dataclass
class Pair:
    """The joined facts and their halves."""

    bell: signals.Signal = field(default_factory=signals.Signal)

    def __post_init__(self) -> None:
        self.trials, self.jobs = Half(self.bell), Half(self.bell)
        self.facts = joined.JoinedFacts(self.trials, self.jobs, bell=self.bell)


def test_the_first_cursor_lies_behind_everything() -> None:
    pair = Pair()
    pair.trials.append(TRIAL)
    first = pair.facts.changed("", wait_s=30)
    assert first.keys == ()
    assert pair.facts.changed(first.cursor, wait_s=0).keys == ()


def test_changes_of_both_halves_come_once_each() -> None:
    pair = Pair()
    cursor = pair.facts.changed("", wait_s=0).cursor
    for key in (JOB, TRIAL):
        (pair.trials if key is TRIAL else pair.jobs).append(key)
    found = pair.facts.changed(cursor, wait_s=0)
    assert found.keys == (TRIAL, JOB)
    assert pair.facts.changed(found.cursor, wait_s=0).keys == ()
    pair.jobs.append(JOB)
    assert pair.facts.changed(found.cursor, wait_s=0).keys == (JOB,)


@pytest.mark.parametrize("late", [TRIAL, JOB])
def test_a_change_of_either_half_ends_the_wait(late: meta.Key) -> None:
    pair = Pair()
    cursor = pair.facts.changed("", wait_s=0).cursor
    found: list[facts.Changes] = []
    waiting = threading.Thread(target=lambda: found.append(pair.facts.changed(cursor, wait_s=60)))
    waiting.start()
    (pair.trials if late is TRIAL else pair.jobs).append(late)
    waiting.join(30)
    assert [changes.keys for changes in found] == [(late,)]


@pytest.mark.parametrize("cursor", ["3", "/", "3/", "/3"])
def test_a_cursor_of_somebody_else_is_refused(cursor: str) -> None:
    with pytest.raises(errors.InvalidSpec, match="is not a cursor"):
        Pair().facts.changed(cursor, wait_s=0)


def test_snapshots_come_from_their_half() -> None:
    pair = Pair()
    assert pair.facts.trial("u").step == 7
    assert pair.facts.job("u") == facts.JobFacts(uid="u", state="labeling")
    assert pair.facts.admit({"metadata": {"uid": "u"}}).state == "importing"
