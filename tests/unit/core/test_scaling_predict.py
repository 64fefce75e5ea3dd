"""Sums, overlap, stragglers, whole steps, and what is said about them."""

from __future__ import annotations

import dataclasses
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintile.core.scaling import (
    advice,
    bands,
    collectives,
    hosts,
    outlook,
    overlap,
    predict,
    records,
    simulate,
)
from quintile.testing import calibrations

LINK = collectives.Link(1e-4, 1e9)
FAST = 1e18
NAME = "resnet8, 32 x 28x28x1"


def work(**changes: object) -> predict.Work:
    made = predict.Work(
        batch=32,
        input_s=0.001,
        forward_s=0.010,
        backward_s=0.020,
        update_s=0.001,
        buckets=(
            records.Bucket(size_bytes=1 << 20, ready=0.5),
            records.Bucket(size_bytes=4 << 20, ready=1.0),
        ),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def cluster(**changes: object) -> predict.Cluster:
    made = predict.Cluster(
        host=hosts.Host(2, 1),
        per_host=1,
        inside=LINK,
        across=LINK,
        add_bytes_per_s=FAST,
        jitter=0.0,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def wish(**changes: object) -> outlook.Wish:
    made = outlook.Wish(NAME, predict.Plan(), 4, collectives.Link(5e-5, 1.25e9))
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("workers", "add", "expected"),
    [
        (1, FAST, 0.0),
        (2, FAST, 2e-4 + 1e6 / 1e9),
        (4, FAST, 6e-4 + 1.5e6 / 1e9),
        (4, 1e9, 6e-4 + 1.5e6 / 1e9 + 0.75e6 / 1e9),
    ],
)
def test_a_ring(workers: int, add: float, expected: float) -> None:
    assert collectives.ring_s(1e6, workers, LINK, add) == pytest.approx(expected)


def test_two_levels_are_a_ring_of_hosts_and_a_sum_in_each() -> None:
    flat = collectives.two_level_s(1e6, collectives.Shape(4, 1), LINK, LINK, FAST)
    assert flat == collectives.ring_s(1e6, 4, LINK, FAST)
    both = collectives.two_level_s(1e6, collectives.Shape(4, 2), LINK, LINK, FAST)
    assert both == pytest.approx(flat + 3e-4 + 1.5e6 / 1e9)


@pytest.mark.parametrize(
    ("workers", "servers", "per_host", "wire"),
    [(20, 5, 1, 8.0), (20, 20, 1, 2.0), (20, 40, 1, 2.0), (20, 5, 4, 8.0), (20, 20, 4, 8.0)],
)
def test_the_busiest_link_of_parameter_servers(
    workers: int, servers: int, per_host: int, wire: float
) -> None:
    assert collectives.servers_wire(collectives.Team(workers, servers, per_host)) == wire


def test_rates_between_measured_sizes_lie_between() -> None:
    link = collectives.Link(0.0, 1e9, rates=((1e3, 4e9), (1e6, 1e9)), limit=3e9)
    sizes = (1, 1e3, 31_622.8, 1e6, 1e9)
    assert [link.rate(size) for size in sizes] == pytest.approx([3e9, 3e9, 2e9, 1e9, 1e9], rel=1e-3)
    assert link.slowed(2).rate(1e6) == 5e8


@pytest.mark.parametrize(
    ("ready", "sums_s", "exposed"),
    [
        ([], [], 0.0),
        ([1.0], [3.0], 3.0),
        ([0.5], [3.0], 0.0),
        ([0.2, 1.0], [1.0, 2.0], 2.0),
        ([0.5, 1.0], [8.0, 2.0], 5.0),
    ],
)
def test_what_of_the_sums_is_left_after_the_backward_pass(
    ready: list[float], sums_s: list[float], exposed: float
) -> None:
    found = overlap.pipeline(10.0, ready, sums_s)
    assert found.exposed_s == pytest.approx(exposed)
    assert found.exposed_s + found.hidden_s == pytest.approx(sum(sums_s))


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 5)), min_size=1, max_size=8),
    st.floats(0.1, 10),
)
def test_overlap_hides_no_more_than_there_is(
    buckets: list[tuple[float, float]], backward_s: float
) -> None:
    ready = [*sorted(at for at, _ in buckets)[:-1], 1.0]
    sums_s = [seconds for _, seconds in buckets]
    found = overlap.pipeline(backward_s, ready, sums_s)
    assert sums_s[-1] - 1e-9 <= found.exposed_s <= sum(sums_s) + 1e-9
    assert found.hidden_s <= backward_s + 1e-9


@pytest.mark.parametrize("workers", [2, 16, 1024])
def test_the_slowest_of_many_steps(workers: int) -> None:
    chance = random.Random(0)
    drawn = [max(chance.lognormvariate(0.0, 0.2) for _ in range(workers)) for _ in range(400)]
    assert predict.slowest(workers, 0.2) == pytest.approx(statistics.median(drawn), rel=0.03)
    assert predict.slowest(1, 0.2) == predict.slowest(workers, 0.0) == 1.0


def test_a_step_of_one_worker_is_its_parts() -> None:
    found = predict.step(work(), cluster(jitter=0.3), predict.Plan(), 1)
    assert found.seconds == pytest.approx(0.032)
    assert found.images_per_s == pytest.approx(1000)


def test_a_step_of_two_hosts_with_processors_to_spare_pays_what_is_exposed() -> None:
    found = predict.step(work(), cluster(), predict.Plan(), 2)
    last_s = collectives.ring_s(4 << 20, 2, LINK, FAST)
    assert found.summing_s == pytest.approx(last_s)
    full = predict.step(work(), cluster(host=hosts.Host(1, 1)), predict.Plan(), 2)
    first_s = collectives.ring_s(1 << 20, 2, LINK, FAST)
    assert full.summing_s == pytest.approx(last_s + first_s)


def test_being_ready_to_sum_costs_only_who_sums() -> None:
    wrapped = work(wrapping_s=0.01)
    for workers, plan, cost_s in (
        (1, predict.Plan(), 0.0),
        (2, predict.Plan(), 0.01),
        (2, predict.Plan("servers", 1), 0.0),
    ):
        with_s = predict.step(wrapped, cluster(), plan, workers).seconds
        assert with_s - predict.step(work(), cluster(), plan, workers).seconds == pytest.approx(
            cost_s
        )


def test_a_slow_network_is_waited_for_and_a_fast_one_costs_what_the_processor_does() -> None:
    slow = cluster(across=collectives.Link(0.0, 1e7))
    quick = cluster(across=collectives.Link(0.0, 1e15))
    last_s = predict.step(work(), slow, predict.Plan(), 2).summing_s
    assert last_s >= (4 << 20) / 1e7
    least_s = predict.step(work(), quick, predict.Plan(), 2).summing_s
    assert least_s == pytest.approx((4 << 20) / LINK.bytes_per_s, rel=0.01)


def test_storage_that_all_share_stalls_many_workers_only() -> None:
    reading = work(stored_bytes=3.2e5)
    shared = cluster(storage_bytes_per_s=1e8)
    few, many = (predict.step(reading, shared, predict.Plan(), n) for n in (4, 64))
    assert few.stalled_s == 0.0
    assert many.images_per_s == pytest.approx(1e8 / 3.2e5 * 32)


@settings(max_examples=60)
@given(
    st.sampled_from(["ring", "two-level", "servers"]),
    st.floats(0, 0.3),
    st.integers(1, 4),
    st.floats(1e6, 1e11),
)
def test_more_workers_never_make_a_step_shorter(
    scheme: predict.Scheme, jitter: float, per_host: int, rate: float
) -> None:
    among = cluster(jitter=jitter, per_host=per_host, across=collectives.Link(1e-4, rate))
    plan = predict.Plan(scheme, servers=4)
    alone = predict.step(work(), among, plan, 1).seconds
    for workers in (2, 4, 8, 64, 1024):
        assert predict.step(work(), among, plan, workers).seconds >= alone * (1 - 1e-9)


class TestAdvice:
    def test_servers_that_lose_to_a_ring(self) -> None:
        plan = predict.Plan("servers", 5)
        slow = cluster(across=collectives.Link(1e-5, 1e7))
        said = advice.servers(work(), slow, plan, 20)
        assert "5 parameter servers x 20 workers would take 4.2x the wire time of a ring" in said
        assert "8.0 against 1.9" in said
        assert "use mode ddp" in said

    def test_a_model_too_small_for_the_wire_to_matter(self) -> None:
        tiny = work(buckets=(records.Bucket(size_bytes=4096, ready=1.0),))
        said = advice.servers(tiny, cluster(), predict.Plan("servers", 5), 20)
        assert "delays count more" in said

    @pytest.mark.parametrize(
        ("plan", "workers"), [(predict.Plan(), 20), (predict.Plan("servers", 5), 1)]
    )
    def test_nothing_to_warn_of(self, plan: predict.Plan, workers: int) -> None:
        assert advice.servers(work(), cluster(), plan, workers) == ""

    def test_what_a_step_loses_largest_first(self) -> None:
        step = predict.Step(8, 4, 32, 1.0, 0.3, 0.6, 0.1)
        said = advice.costs(step)
        assert [line.split(" is ")[1].split(":")[0] for line in said] == [
            "summing gradients",
            "waiting for the slowest worker",
        ]
        assert said[0].startswith("At 8 workers 30 % of a step")

    def test_a_host_with_too_many_workers(self) -> None:
        assert "Use at most 2 per host" in advice.crowded(cluster(per_host=3))
        assert advice.crowded(cluster(per_host=2)) == ""


class TestOutlook:
    def test_a_row_for_each_power_of_two_and_for_the_planned_number(self) -> None:
        assert outlook.counts(6, 16) == (1, 2, 4, 6, 8, 16)
        assert outlook.counts(1, 1) == (1,)
        assert outlook.counts(20, 10) == (1, 2, 4, 8, 10, 20)

    def test_rows_are_consistent(self) -> None:
        found = outlook.look(calibrations.made(calibrations.Truth()), wish(price=0.5))
        assert [point.step.workers for point in found.points] == [2**k for k in range(11)]
        first = found.points[0]
        assert first.efficiency == 1.0
        assert first.step.images_per_s == pytest.approx(32 / calibrations.Truth().step_s)
        for point in found.points:
            assert point.band.low <= point.step.images_per_s <= point.band.high
            assert point.efficiency <= 1.0
            hours = point.step.workers * 1e6 / point.step.images_per_s / 3600
            assert point.cost == pytest.approx(0.5 * hours)
        assert found.points[1].step.hosts == 1
        assert found.points[2].step.hosts == 2

    def test_equal_inputs_give_an_equal_answer(self) -> None:
        calibration = calibrations.made(calibrations.Truth())
        first, second = (outlook.look(calibration, wish()) for _ in range(2))
        assert first.points == second.points

    def test_a_worse_held_out_error_gives_wider_bands(self) -> None:
        near, far = (
            outlook.look(calibrations.made(calibrations.Truth(together_s=seconds)), wish())
            for seconds in (0.043, 0.12)
        )
        assert far.error > near.error
        assert far.points[0].band.low < near.points[0].band.low
        assert any("rough guess" in note for note in far.notes)

    def test_decoding_in_every_step_costs_time(self) -> None:
        calibration = calibrations.made(calibrations.Truth())
        kept, decoded = (outlook.look(calibration, wish(decodes=on)) for on in (False, True))
        assert decoded.points[0].step.images_per_s < kept.points[0].step.images_per_s
        assert decoded.work.stored_bytes == 32 * 900

    def test_an_unknown_profile(self) -> None:
        with pytest.raises(KeyError):
            outlook.look(calibrations.made(calibrations.Truth()), wish(profile="other"))

    def test_redrawn_measurements_are_from_the_measured_ones(self) -> None:
        calibration = calibrations.made(calibrations.Truth())
        drawn = bands.redrawn(calibration, random.Random(1))
        for one, other in zip(calibration.steps, drawn.steps, strict=True):
            assert set(other.times_s) <= set(one.times_s)
            assert len(other.times_s) == len(one.times_s)
        assert drawn != calibration


class TestSimulation:
    def test_together_it_is_the_closed_form(self) -> None:
        pace = simulate.Pace(0.032, jitter=0.1)
        played = simulate.play(pace, workers=16, steps=400, ahead=0)
        said = predict.step(work(), cluster(jitter=0.1), predict.Plan(), 16)
        assert played.seconds / 400 == pytest.approx(said.computing_s + said.waiting_s, rel=0.02)

    def test_a_lasting_slow_worker_holds_back_all_but_async(self) -> None:
        pace = simulate.Pace(1.0, always_slow=1, slow_factor=3.0)
        sync, ahead, free = (
            simulate.play(pace, workers=2, steps=300, ahead=limit).steps_per_s
            for limit in (0, 8, None)
        )
        assert sync == pytest.approx(2 / 3)
        assert ahead == pytest.approx(sync, rel=0.03)
        assert free / sync == pytest.approx(2.0, rel=0.02)

    def test_running_ahead_wins_when_slowness_passes(self) -> None:
        pace = simulate.Pace(1.0, slow_chance=0.1, slow_factor=3.0)
        rates = [
            simulate.play(pace, workers=4, steps=4000, ahead=limit).steps_per_s
            for limit in (0, 1, 2, 8, None)
        ]
        assert rates == sorted(rates)
        assert rates[3] / rates[0] >= 1.2

    def test_the_same_seed_plays_the_same(self) -> None:
        pace = simulate.Pace(1.0, jitter=0.2)
        first, second, other = (
            simulate.play(pace, workers=3, steps=50, ahead=2, seed=seed) for seed in (1, 1, 2)
        )
        assert first == second != other
