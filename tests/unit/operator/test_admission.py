"""Places in queues: granted, given back, taken away, restored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintile.core import admin_kinds, errors, meta, queueing
from quintile_operator import admission


def queue(name: str = "gpu", **spec: Any) -> admin_kinds.Queue:
    wanted = {"quota": [{"resource": "gpu", "amount": "8"}], **spec}
    return admin_kinds.Queue.model_validate({"metadata": {"name": name}, "spec": wanted})


def claim(
    name: str, *, gpu: int = 4, priority: int = 0, since_s: float = 0.0, namespace: str = "team-a"
) -> queueing.Claim:
    key = meta.Key("Trial", namespace, name)
    return queueing.Claim(name, key, priority, since_s, {"gpu": gpu, "trials": 1})


class Told:
    """An admission and the names of the trials that it wants looked at."""

    def __init__(self, *queues: admin_kinds.Queue) -> None:
        self.names: list[str] = []
        self.admission = admission.Admission(lambda key: self.names.append(key.name))
        self.admission.learn(queues)

    def ask(self, *claims: queueing.Claim) -> list[str]:
        return [self.admission.ask("gpu", entry).answer for entry in claims]


def test_those_that_fit_begin_and_the_next_begins_when_one_ends() -> None:
    told = Told(queue())
    line = [claim(name, since_s=number) for number, name in enumerate("abc")]
    assert told.ask(*line) == ["granted", "granted", "waiting"]
    assert told.ask(*line) == ["granted", "granted", "waiting"]
    assert told.names == []
    told.admission.release("a")
    told.admission.release("a")
    assert told.names == ["c"]
    assert told.ask(line[2]) == ["granted"]


def test_a_waiting_trial_is_told_what_it_waits_for() -> None:
    told = Told(queue())
    told.ask(claim("a", gpu=6))
    place = told.admission.ask("gpu", claim("b", gpu=4, since_s=1))
    assert place.reason == "WaitsInQueue"
    assert place.message == "queue gpu: needs 4 gpu (2 of 8 free); 0 ahead"
    place = told.admission.ask("gpu", claim("c", gpu=1, since_s=2))
    assert place.message == "queue gpu: fits, but others go first; 1 ahead"


def test_priority_goes_before_age() -> None:
    told = Told(queue())
    told.ask(claim("a", gpu=8), claim("b", gpu=8, since_s=1), claim("c", gpu=8, priority=1))
    told.admission.release("a")
    assert told.names == ["c"]


def test_a_higher_priority_takes_places_away_one_turn_at_a_time() -> None:
    told = Told(queue(preemption="Lower"))
    low = [claim("a"), claim("b", since_s=1)]
    told.ask(*low)
    urgent = claim("urgent", priority=5, since_s=9)
    assert told.ask(urgent) == ["waiting"]
    assert told.names == ["b"]
    place = told.admission.ask("gpu", low[1])
    assert (place.answer, place.reason) == ("evict", "Preempted")
    told.admission.release("b")
    assert told.names == ["b", "urgent"]
    assert told.ask(urgent, low[0], low[1]) == ["granted", "granted", "waiting"]


@pytest.mark.parametrize(
    ("spec", "asked", "reason"),
    [
        ({}, claim("a", gpu=9), "ExceedsQuota"),
        ({"namespaces": ["team-b"]}, claim("a"), "QueueNotAllowed"),
    ],
)
def test_what_can_never_begin_is_refused(
    spec: dict[str, Any], asked: queueing.Claim, reason: str
) -> None:
    place = Told(queue(**spec)).admission.ask("gpu", asked)
    assert (place.answer, place.reason) == ("refused", reason)
    assert "gpu" in place.message


def test_a_queue_that_is_not_there_or_goes_away() -> None:
    told = Told(queue())
    assert told.admission.ask("other", claim("a")).reason == "QueueNotFound"
    told.ask(claim("a", gpu=8), claim("b"))
    told.admission.learn([])
    assert sorted(told.names) == ["a", "b"]
    assert told.admission.ask("gpu", claim("b")).reason == "QueueNotFound"
    with pytest.raises(errors.NotFound):
        told.admission.status("gpu")


def test_a_project_may_not_fill_the_line() -> None:
    told = Told(queue(maxPendingPerNamespace=1))
    told.ask(claim("a", gpu=8), claim("b"))
    assert told.admission.ask("gpu", claim("c")).reason == "TooManyPending"
    assert told.admission.ask("gpu", claim("b")).reason == "WaitsInQueue"
    assert told.admission.ask("gpu", claim("d", namespace="team-b")).reason == "WaitsInQueue"


def test_a_larger_quota_lets_others_begin_and_a_smaller_one_takes_nothing_away() -> None:
    told = Told(queue())
    told.ask(claim("a", gpu=8), claim("b"))
    told.admission.learn([queue(quota=[{"resource": "gpu", "amount": "12"}])])
    assert told.names == ["b"]
    told.admission.learn([queue(quota=[{"resource": "gpu", "amount": "1"}])])
    assert told.ask(claim("a", gpu=8), claim("b")) == ["granted", "granted"]
    assert told.admission.status("gpu").document()["used"] == [{"resource": "gpu", "amount": "12"}]


def test_places_come_back_after_a_restart_before_anybody_else_begins() -> None:
    told = Told(queue())
    told.admission.restore("gpu", claim("running", gpu=8))
    assert told.ask(claim("new"), claim("running", gpu=8)) == ["waiting", "granted"]
    told.admission.release("running")
    assert told.names == ["new"]


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "release"]), st.integers(0, 9), st.integers(0, 9)),
    max_size=60,
)


@settings(deadline=None)
@given(STEPS, st.sampled_from(["Never", "Lower"]))
def test_the_quota_always_holds(steps: Iterable[tuple[str, int, int]], preemption: str) -> None:
    told = Told(queue(preemption=preemption))
    known: dict[str, queueing.Claim] = {}
    for step, (what, number, size) in enumerate(steps):
        uid = f"t{number}"
        if what == "release":
            told.admission.release(uid)
            known.pop(uid, None)
            continue
        known.setdefault(uid, claim(uid, gpu=size, priority=number % 3, since_s=step))
        told.ask(known[uid])
        status = told.admission.status("gpu")
        assert int(status.used[0].amount) <= 8
        assert status.admitted + status.pending <= len(known)
    for uid in known:
        told.admission.release(uid)
    assert told.admission.status("gpu").pending == told.admission.status("gpu").admitted == 0
