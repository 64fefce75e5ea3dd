"""Clock: the fake and the machine's clock keep the contract."""

from __future__ import annotations

import time

import pytest

from quintile import ports
from quintile.adapters import clock
from quintile.testing import clock as fake_clock


@pytest.fixture(params=["fake", "system"])
def subject(request: pytest.FixtureRequest) -> ports.Clock:
    return fake_clock.FakeClock() if request.param == "fake" else clock.SystemClock()


def test_time_goes_on_by_at_least_what_was_slept(subject: ports.Clock) -> None:
    before = subject.now()
    subject.sleep(0.01)
    assert subject.now() >= before + 0.0099


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_nothing_to_sleep_is_no_error(subject: ports.Clock, seconds: float) -> None:
    before = subject.now()
    subject.sleep(seconds)
    assert subject.now() >= before


def test_the_system_clock_is_the_epochs() -> None:
    assert abs(clock.SystemClock().now() - time.time()) < 5


def test_the_fake_stands_still() -> None:
    fake = fake_clock.FakeClock(5.0)
    assert (fake.now(), fake.now()) == (5.0, 5.0)
