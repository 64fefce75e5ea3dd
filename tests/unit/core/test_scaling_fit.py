"""From calibrations back to the machines that they are of."""

from __future__ import annotations

import dataclasses
import statistics

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintile.core import errors
from quintile.core.scaling import curves, fit, holdout, hosts, records, units
from quintile.testing import calibrations

CURVE_2019 = {1: 31.0, 2: 54.0, 4: 84.0, 8: 164.0, 16: 339.0, 32: 599.0, 64: 1152.0, 128: 1984.0}


@settings(max_examples=50)
@given(
    delay_s=st.floats(5e-6, 2e-3),
    bytes_per_s=st.floats(1e7, 1e10),
    jitter=st.floats(0.0, 0.3),
    memory=st.floats(0.0, 1.0),
)
def test_a_fit_finds_what_the_machine_is(
    delay_s: float, bytes_per_s: float, jitter: float, memory: float
) -> None:
    truth = calibrations.Truth(
        delay_s=delay_s, bytes_per_s=bytes_per_s, jitter=jitter, memory=memory
    )
    found = fit.fit(calibrations.made(truth))
    assert found.jitter == pytest.approx(jitter, rel=0.1, abs=1e-6)
    assert found.host.memory == pytest.approx(memory, abs=1e-6)
    for run in calibrations.made(truth).sums:
        share = 2 * (run.ranks - 1) / run.ranks * run.size_bytes
        rate = found.inside.rate(run.size_bytes)
        said_s = 2 * (run.ranks - 1) * found.inside.delay_s + share / rate
        said_s += (run.ranks - 1) / run.ranks * run.size_bytes / truth.add_bytes_per_s
        said_s *= found.host.sharing(run.ranks)
        assert said_s == pytest.approx(truth.sum_s(run.size_bytes, run.ranks), rel=0.1)


def test_other_work_that_only_adds_does_not_move_a_fit() -> None:
    quiet = calibrations.made(calibrations.Truth())
    disturbed = quiet.model_copy(
        update={
            "steps": [
                run.model_copy(update={"times_s": [3 * one for one in run.times_s]})
                for run in quiet.steps
            ],
            "sums": [
                run.model_copy(update={"times_s": [*run.times_s, *(9 * t for t in run.times_s)]})
                for run in quiet.sums
            ],
        }
    )
    assert fit.fit(disturbed) == fit.fit(quiet)
    assert fit.busy(disturbed)
    assert not fit.busy(quiet)


@pytest.mark.parametrize(("load", "busy"), [(0.2, False), (1.5, True)])
def test_without_a_clock_of_the_thread_the_load_says_what_is_busy(load: float, busy: bool) -> None:
    found = calibrations.made(calibrations.Truth(load=load))
    bare = [run.model_copy(update={"cpu_s": []}) for run in found.steps]
    assert fit.busy(found.model_copy(update={"steps": bare})) is busy


def test_small_sums_that_take_alike_are_all_delay() -> None:
    found = calibrations.made(calibrations.Truth())
    small = [
        records.SumRun(ranks=2, size_bytes=size, times_s=[seconds] * 5)
        for size, seconds in ((4096, 2.1e-4), (65_536, 2.0e-4))
    ]
    larger = [run for run in found.sums if run.size_bytes > 65_536]
    link = fit.fit(found.model_copy(update={"sums": [*small, *larger]})).inside
    assert link.delay_s == pytest.approx(1e-4, rel=0.1)
    alone = fit.fit(found.model_copy(update={"sums": small})).inside
    assert alone.rate(1 << 20) == float("inf")


def test_sums_between_hosts_are_fitted_apart_from_those_inside() -> None:
    found = calibrations.made(calibrations.Truth(bytes_per_s=4e9))
    slow = calibrations.Truth(bytes_per_s=1e8, delay_s=1e-3)
    between = [
        records.SumRun(ranks=2, hosts=2, size_bytes=size, times_s=[slow.sum_s(size, 2)] * 5)
        for size in (4096, 65_536, 1 << 20, 4 << 20)
    ]
    both = fit.fit(found.model_copy(update={"sums": [*found.sums, *between]}))
    assert both.inside == fit.fit(found).inside
    assert both.across is not None
    assert both.across.rate(1 << 20) == pytest.approx(1e8, rel=0.02)


def test_held_out_steps_are_not_in_the_fit() -> None:
    slow, quick = (
        calibrations.made(calibrations.Truth(together_s=seconds)) for seconds in (0.09, 0.045)
    )
    assert fit.fit(slow) == fit.fit(quick)
    (late,), (early,) = holdout.steps(slow), holdout.steps(quick)
    assert late.predicted_s == early.predicted_s
    assert late.error == pytest.approx((1 + early.error) / 2 - 1, rel=1e-3)


def test_what_being_ready_to_sum_adds() -> None:
    found = calibrations.made(calibrations.Truth())
    assert fit.wrapping_s(found, found.profiles[0]) == 0.0
    alone = found.steps[0]
    slower = {"way": "wrapped", "times_s": [1.0], "cpu_s": [1.1 * one for one in alone.cpu_s]}
    wrapped = found.model_copy(update={"steps": [*found.steps, alone.model_copy(update=slower)]})
    expected = pytest.approx(0.1 * calibrations.Truth().step_s)
    assert fit.wrapping_s(wrapped, found.profiles[0]) == expected


def test_workers_cost_each_other_what_their_model_does() -> None:
    first = calibrations.made(calibrations.Truth(memory=0.1))
    second = calibrations.made(calibrations.Truth(memory=0.5), name="resnet18, 4 x 28x28x1")
    both = first.model_copy(
        update={
            "profiles": [*first.profiles, *second.profiles],
            "steps": [*first.steps, *second.steps],
        }
    )
    costs = [fit.fit(both, name).host.memory for name in (both.profiles[1].name, "", "other")]
    assert costs == pytest.approx([0.5, 0.3, 0.3])


def test_a_sum_is_predicted_from_the_others() -> None:
    found = calibrations.made(calibrations.Truth())
    assert holdout.typical(holdout.sums(found)) < 0.05
    assert holdout.typical(()) == 0.0
    assert holdout.sums(found.model_copy(update={"sums": found.sums[:2]})) == ()


@pytest.mark.parametrize(
    ("processors", "threads", "workers", "crowding"),
    [(2, 1, 1, 1.0), (2, 1, 2, 1.2), (2, 1, 4, 2.4), (2, 2, 2, 2.0), (16, 4, 4, 1.6)],
)
def test_workers_of_a_host(processors: int, threads: int, workers: int, crowding: float) -> None:
    assert hosts.Host(processors, threads, memory=0.2).crowding(workers) == pytest.approx(crowding)


@pytest.mark.parametrize("times", [[1.0], [1.0, 2.0, 3.0]])
def test_a_few_times_have_no_quartiles(times: list[float]) -> None:
    assert fit.spread(times) == 0.0
    assert fit.undisturbed(times) == 1.0


def test_a_step_without_runs_alone_is_as_long_as_its_parts() -> None:
    found = calibrations.made(calibrations.Truth())
    empty = found.model_copy(update={"steps": [found.steps[2]]})
    assert fit.step_s(empty, found.profiles[0]) == found.profiles[0].step_s
    assert fit.fit(empty).jitter == 0.0


def test_the_curve_of_2019() -> None:
    best, *others = curves.fits(CURVE_2019, per_host=4)
    assert best.factors == pytest.approx((0.476, 0.0170), abs=5e-4)
    assert best.error == pytest.approx(0.032, abs=1e-3)
    assert best.worst <= 0.05
    assert 1 / best.step(1024) == pytest.approx(0.17, abs=0.005)
    assert [other.error > best.error for other in others] == [True, True]


def test_a_curve_of_a_known_form_is_found_exactly() -> None:
    rates = {n: n * 10 / (1 + 0.2 * n.bit_length() - 0.2) for n in (1, 2, 4, 8, 16)}
    best = curves.fits(rates, per_host=4)[0]
    assert best.name == "a log2(n)"
    assert best.factors == pytest.approx((0.2,))
    assert best.worst < 1e-9


@pytest.mark.parametrize(
    "change", [{"format": "other/1"}, {"sums": []}, {"took_s": float("nan")}, {"more": 1}]
)
def test_a_calibration_that_is_none_is_refused(change: dict[str, object]) -> None:
    document = calibrations.made(calibrations.Truth()).model_dump()
    with pytest.raises(pydantic.ValidationError):
        records.Calibration.model_validate({**document, **change})


def test_a_calibration_comes_back_from_its_file() -> None:
    found = calibrations.made(calibrations.Truth())
    assert records.Calibration.model_validate_json(found.model_dump_json()) == found
    with pytest.raises(KeyError):
        found.profile("another")


@pytest.mark.parametrize(
    ("text", "rate"), [("10Gbit", 1.25e9), ("800 kbit", 1e5), ("500MB", 5e8), ("1.5Gbit", 1.875e8)]
)
def test_rates(text: str, rate: float) -> None:
    assert units.bytes_per_s(text) == pytest.approx(rate)
    assert units.bytes_per_s(units.rate_text(rate).removesuffix("/s")) == pytest.approx(rate)


@pytest.mark.parametrize(("text", "value"), [("50us", 5e-5), ("1ms", 1e-3), ("2s", 2.0)])
def test_delays(text: str, value: float) -> None:
    assert units.seconds(text) == pytest.approx(value)
    assert units.time_text(value).replace(" ", "") == text


@pytest.mark.parametrize("text", ["", "10", "fast", "0Gbit", "-1Gbit", "10Gb"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(errors.InvalidSpec) as caught:
        units.bytes_per_s(text, field="bandwidth")
    assert caught.value.field == "bandwidth"


def test_medians_of_made_calibrations_are_the_truth() -> None:
    truth = calibrations.Truth()
    run = calibrations.made(truth).steps[0]
    assert statistics.median(run.times_s) == pytest.approx(truth.step_s)
    assert dataclasses.replace(truth, jitter=0).step_s == truth.step_s
