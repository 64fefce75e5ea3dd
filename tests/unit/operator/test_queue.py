"""The queue of keys: deduplicated, delayed, exclusive, with back-off."""

from __future__ import annotations

import threading

import pytest

from quintile.core import meta
from quintile_operator import queue

A, B, C = (meta.Key("Trial", "default", name) for name in "abc")


class Time:
    """Seconds that only go on when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def keys(time: Time) -> queue.KeyQueue:
    return queue.KeyQueue(monotonic=time)


def drain(keys: queue.KeyQueue) -> list[meta.Key]:
    found = []
    while (key := keys.take(timeout_s=0)) is not None:
        found.append(key)
    return found


def test_a_key_comes_once_however_often_it_is_marked(keys: queue.KeyQueue) -> None:
    for key in (A, B, A, A):
        keys.mark(key)
    assert keys.depth == 2
    assert drain(keys) == [A, B]


def test_a_delayed_key_comes_when_it_is_due(keys: queue.KeyQueue, time: Time) -> None:
    keys.mark(A, delay_s=5)
    keys.mark(B, delay_s=1)
    assert drain(keys) == []
    time.now_s += 1
    assert drain(keys) == [B]
    time.now_s += 4
    assert drain(keys) == [A]


@pytest.mark.parametrize("delays", [(60, 1), (1, 60)])
def test_the_earlier_of_two_marks_counts(
    keys: queue.KeyQueue, time: Time, delays: tuple[float, float]
) -> None:
    for delay_s in delays:
        keys.mark(A, delay_s=delay_s)
    time.now_s += 1
    assert drain(keys) == [A]
    keys.done(A)
    time.now_s += 60
    assert drain(keys) == []


def test_a_key_in_hand_is_given_to_nobody_else(keys: queue.KeyQueue) -> None:
    keys.mark(A)
    assert keys.take(timeout_s=0) == A
    keys.mark(A)
    keys.mark(B)
    assert drain(keys) == [B]
    keys.done(A)
    assert drain(keys) == [A]


def test_a_key_that_is_done_stays_away(keys: queue.KeyQueue) -> None:
    keys.mark(A)
    assert drain(keys) == [A]
    keys.done(A)
    assert drain(keys) == []
    assert keys.depth == 0


def test_a_key_asks_to_come_again(keys: queue.KeyQueue, time: Time) -> None:
    keys.mark(A)
    drain(keys)
    keys.done(A, again_s=3)
    assert drain(keys) == []
    time.now_s += 3
    assert drain(keys) == [A]


def test_a_mark_while_in_hand_beats_a_later_wish(keys: queue.KeyQueue) -> None:
    keys.mark(A)
    drain(keys)
    keys.mark(A)
    keys.done(A, again_s=300)
    assert drain(keys) == [A]


def test_failures_wait_longer_each_time_and_forget_after_success(
    keys: queue.KeyQueue, time: Time
) -> None:
    waits = []
    for _ in range(12):
        keys.mark(A)
        time.now_s += 1000
        assert drain(keys) == [A]
        waits.append(keys.retry(A))
    bounds = [min(60.0, 0.5 * 2**n) for n in range(12)]
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    time.now_s += 60
    assert drain(keys) == [A]
    keys.done(A)
    keys.mark(A)
    drain(keys)
    assert keys.retry(A) <= 0.5


def test_a_failure_waits_at_least_as_long_as_it_was_told(keys: queue.KeyQueue) -> None:
    keys.mark(A)
    drain(keys)
    assert keys.retry(A, least_s=7) == 7


def test_a_mark_ends_a_back_off(keys: queue.KeyQueue) -> None:
    keys.mark(A)
    drain(keys)
    keys.retry(A, least_s=60)
    keys.mark(A)
    assert drain(keys) == [A]


def test_waiting_ends_with_a_mark_or_with_the_queue() -> None:
    keys = queue.KeyQueue()
    found: list[meta.Key | None] = []

    def work() -> None:
        while (key := keys.take()) is not None:
            found.append(key)
            keys.done(key)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for key in (A, B, C):
        keys.mark(key)
    keys.mark(A, delay_s=3600)
    while len(found) < 3:
        threading.Event().wait(0.001)
    keys.close()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(found) == [A, B, C]  # type: ignore[type-var]


def test_threads_never_hold_one_key_twice() -> None:
    keys = queue.KeyQueue()
    held: set[meta.Key] = set()
    clashes: list[meta.Key] = []
    looks = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal looks
        while (key := keys.take()) is not None:
            with lock:
                looks += 1
                if key in held:
                    clashes.append(key)
                held.add(key)
                again = looks < 600
                if looks >= 700:
                    keys.close()
            if again:
                keys.mark(key)
            keys.mark(C)
            with lock:
                held.discard(key)
            keys.done(key)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for key in (A, B, C):
        keys.mark(key)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert looks >= 700
    assert clashes == []
