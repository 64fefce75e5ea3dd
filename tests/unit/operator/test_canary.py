"""The canary: what we wrote must be told of by the watch, in time."""

from __future__ import annotations

from typing import Any

import pytest

from quintile_operator import canary


class Time:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def trial(version: int, *, name: str = "a", kind: str = "Trial") -> dict[str, Any]:
    metadata = {"namespace": "team", "name": name, "resourceVersion": str(version)}
    return {"kind": kind, "metadata": metadata}


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def bird(time: Time) -> canary.Canary:
    return canary.Canary(monotonic=time)


def test_nothing_written_owes_nothing(bird: canary.Canary, time: Time) -> None:
    time.now += 1e6
    assert (bird.silent_s(), bird.is_dead()) == (0.0, False)


def test_a_write_that_is_never_seen_kills(bird: canary.Canary, time: Time) -> None:
    bird.expect(trial(5))
    time.now += canary.LIMIT_S
    assert not bird.is_dead()
    time.now += 0.1
    assert bird.is_dead()


def test_a_newer_event_of_the_same_stream_pays_for_all_before(
    bird: canary.Canary, time: Time
) -> None:
    for version in (5, 6, 7):
        bird.expect(trial(version))
    bird.seen(trial(6, name="b"))
    time.now += 60
    assert bird.is_dead()
    bird.seen(trial(9))
    assert not bird.is_dead()


def test_another_stream_does_not_pay(bird: canary.Canary, time: Time) -> None:
    bird.expect(trial(5))
    bird.seen(trial(9, kind="Experiment"))
    time.now += 60
    assert bird.is_dead()


def test_what_was_seen_before_it_was_expected_owes_nothing(bird: canary.Canary, time: Time) -> None:
    bird.seen(trial(5))
    bird.expect(trial(5))
    bird.expect(trial(4))
    assert bird.silent_s() == 0


def test_many_writes_keep_the_oldest_debt(bird: canary.Canary, time: Time) -> None:
    for version in range(1, 3 * canary.KEPT):
        bird.expect(trial(version))
        time.now += 0.01
    assert bird.silent_s() == pytest.approx(time.now)
    bird.seen(trial(3 * canary.KEPT))
    assert bird.silent_s() == 0
