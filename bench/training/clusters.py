"""Held-out steps and pushes on clusters of shaped namespaces.

Fitted are bare sums of two and three hosts at one rate, and each model alone. Predicted are steps
of two to eight hosts at that rate and at others, and parameter servers, to which nothing is fitted.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import heldout
import pushing
import shaped
import sleeping

from quintile.core.scaling import collectives, fit, hosts, predict, records
from quintile_trainer.calibration import ranks, session, steps, sums

FITTED_MBIT = 100
NEW_MBIT = (200,)
LEAST_DELIVERED = 0.85
"""Of its rate the shaped network must carry, or it is not the cluster that is predicted."""
TRIES = 4
PROBE_BYTES = 1 << 20
PUSHED_BYTES = 4 << 20
SUM_WORLDS = (2, 3)
SUM_SIZES = (16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20)
SERVERS = ((1, 2), (1, 4), (2, 4), (3, 3), (2, 6))
"""Parameter servers and workers."""
NETS = (
    sleeping.Net("0.5 MB, 60 ms", layers=4, values=32_000, forward_s=0.02, backward_s=0.04),
    sleeping.Net("2 MB, 150 ms", layers=6, values=84_000, forward_s=0.05, backward_s=0.10),
    sleeping.Net("4 MB, 300 ms", layers=8, values=128_000, forward_s=0.10, backward_s=0.20),
    sleeping.Net("4 MB, 60 ms", layers=8, values=128_000, forward_s=0.02, backward_s=0.04),
)
COMPUTING = steps.Wanted("resnet8", 2, (28, 28, 1), 10)
"""A real model: its computing is small beside the sums, at these rates."""


@dataclass
class Measured:
    """Times by what was asked for, and what had to be left out."""

    steps_s: dict[tuple[int, str, int], list[float]] = field(default_factory=dict)
    pushes_s: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def rows(*, quick: bool) -> list[heldout.Row]:
    """Measure, print, and return the rows."""
    worlds = (2, 4) if quick else (2, 3, 4, 8)
    rates = (FITTED_MBIT,) if quick else (FITTED_MBIT, *NEW_MBIT)
    nets, count = (NETS[:2], 8) if quick else (NETS, 10)
    servers = SERVERS[2:3] if quick else SERVERS
    found = Measured()
    with shaped.hosts(max(8, *worlds)) as made, tempfile.TemporaryDirectory() as folder:
        made.limit(f"{FITTED_MBIT}mbit")
        with ranks.team(made.count, Path(folder), threads=1, enter=made.enter) as team:
            calibration = _calibration(team, count)
            for mbit, world in itertools.product(rates, worlds):
                made.limit(f"{mbit}mbit")
                for what in (*nets, COMPUTING):
                    _note_steps(team, found, what, world, mbit, count)
            made.limit(f"{FITTED_MBIT}mbit")
            for pair in servers:
                _note_pushes(team, found, pair)
    return _compared(calibration, found)


def _compared(calibration: records.Calibration, found: Measured) -> list[heldout.Row]:
    constants, busy = fit.fit(calibration), fit.busy(calibration)
    across = constants.across
    assert across is not None
    heldout.say(
        f"clusters of hosts with one worker each; fitted on bare sums of {SUM_WORLDS} hosts at "
        f"{FITTED_MBIT} Mbit/s: {1000 * across.delay_s:.2f} ms a message, "
        f"{8e-6 * across.bytes_per_s:.0f} Mbit/s; models sleep instead of computing, but for "
        f"{COMPUTING.model}" + ("; the machine is busy" if busy else "")
    )
    compared = []
    processors = calibration.machine.processors
    for (mbit, name, world), times in found.steps_s.items():
        # All hosts are this machine: what really computes has its part of the processors.
        part = processors / world if name == COMPUTING.name else processors
        cluster = dataclasses.replace(
            _at_rate(predict.calibrated(constants, 1), mbit), host=hosts.Host(part, 1)
        )
        work = predict.work_of(calibration, name)
        said_s = predict.step(work, cluster, predict.Plan(), world).seconds
        label = f"step of {name}, {world} hosts, {mbit} Mbit/s"
        compared.append(heldout.row(label, said_s, times, busy=busy))
    for (servers, workers), times in found.pushes_s.items():
        team = collectives.Team(workers, servers, 1)
        said_s = collectives.servers_s(PUSHED_BYTES, team, across, across.delay_s)
        label = f"push and pull of 4 MiB, {servers} servers x {workers} workers"
        compared.append(heldout.row(label, said_s, times, busy=busy))
    heldout.table(compared)
    for line in found.left_out:
        print(f"  left out: {line} of its rate was carried by the network of namespaces")
    return compared


def _note_steps(
    team: ranks.Team,
    found: Measured,
    what: sleeping.Net | steps.Wanted,
    world: int,
    mbit: int,
    count: int,
) -> None:
    def run() -> list[float]:
        if isinstance(what, sleeping.Net):
            slept: list[float] = team.call(world, sleeping.together, what, world, count)[0]
            return slept
        times: steps.Times = team.call(world, steps.timed, what, "ddp", world, count)[0]
        return times.steps_s

    times, delivered = _block(team, run, world, mbit)
    if times:
        found.steps_s[mbit, what.name, world] = times
    else:
        found.left_out.append(f"{what.name}, {world} hosts, {mbit} Mbit/s: {delivered:.0%}")


def _note_pushes(team: ranks.Team, found: Measured, pair: tuple[int, int]) -> None:
    world = sum(pair)

    def run() -> list[float]:
        times: list[float] = team.call(world, pushing.exchanges, *pair, PUSHED_BYTES, 6)[-1]
        return times

    times, delivered = _block(team, run, world, FITTED_MBIT)
    if times:
        found.pushes_s[pair] = times
    else:
        found.left_out.append(f"{pair[0]} servers x {pair[1]} workers: {delivered:.0%}")


def _block(
    team: ranks.Team, run: Callable[[], list[float]], world: int, mbit: int
) -> tuple[list[float], float]:
    """Return what a run measured between two looks at the network, and what it carried.

    Nothing when it never carried what it should.
    """
    delivered = 0.0
    for _ in range(TRIES):
        before = _delivered(team, world, mbit)
        times = run()
        delivered = min(before, _delivered(team, world, mbit))
        if delivered >= LEAST_DELIVERED:
            return times, delivered
    return [], delivered


def _calibration(team: ranks.Team, count: int) -> records.Calibration:
    """Return a calibration of hosts with one processor and one worker each."""
    profiles, runs = [], []
    for net in NETS:
        found = team.call(1, sleeping.alone, net, count)[0]
        profiles.append(
            {
                "name": net.name,
                "model": "sleeping",
                "batch": sleeping.BATCH,
                "image": [1, 1, 1],
                "parameters": net.layers * net.values,
                "input_s": 0.0,
                "forward_s": found.forward_s,
                "backward_s": found.backward_s,
                "update_s": 0.0,
                "buckets": [{"size_bytes": size, "ready": at} for size, at in found.buckets],
            }
        )
        runs.append({"profile": net.name, "ranks": 1, "way": "alone", "times_s": found.steps_s})
    profile, computing = _computing(team)
    profiles.append(profile)
    runs.extend(computing)
    summed = [
        {
            "ranks": world,
            "hosts": world,
            "size_bytes": size,
            "times_s": team.call(world, sums.timed, world, size, count)[0],
        }
        for world in SUM_WORLDS
        for size in SUM_SIZES
    ]
    machine = {
        "processor": "made up",
        "processors": os.cpu_count(),
        "threads": 1,
        "load": os.getloadavg()[0],
    }
    return records.Calibration.model_validate(
        {
            "made_at": "now",
            "took_s": 1.0,
            "machine": machine,
            "add_bytes_per_s": team.call(1, sums.add_bytes_per_s)[0],
            "profiles": profiles,
            "steps": runs,
            "sums": summed,
        }
    )


def _computing(team: ranks.Team) -> tuple[session.Json, list[session.Json]]:
    """Return the profile of the real model and its steps alone, by the clock of the thread."""
    parameters, buckets = team.call(1, steps.profiled, COMPUTING)[0]
    times = team.call(1, steps.timed, COMPUTING, "alone", 1, 40)[0]
    parts = {f"{name}_s": statistics.median(values) for name, values in times.parts_s.items()}
    profile = {
        "name": COMPUTING.name,
        "model": COMPUTING.model,
        "batch": COMPUTING.batch,
        "image": list(COMPUTING.image),
        "parameters": parameters,
        "buckets": [{"size_bytes": size, "ready": at} for size, at in buckets],
        **parts,
    }
    wrapped = team.call(1, steps.timed, COMPUTING, "wrapped", 1, 40)[0]
    runs = [
        {
            "profile": COMPUTING.name,
            "ranks": 1,
            "way": way,
            "times_s": found.steps_s,
            "cpu_s": found.cpu_s,
        }
        for way, found in (("alone", times), ("wrapped", wrapped))
    ]
    return profile, runs


def _delivered(team: ranks.Team, world: int, mbit: int) -> float:
    """Return which share of its rate the network carries in a bare sum."""
    times = team.call(world, sums.timed, world, PROBE_BYTES, 4)[0]
    wire_s = 2 * (world - 1) / world * PROBE_BYTES * 8 / (mbit * 1e6)
    return wire_s / statistics.median(times)


def _at_rate(cluster: predict.Cluster, mbit: int) -> predict.Cluster:
    """Return a cluster whose links have another rate than the one that was fitted."""
    if mbit == FITTED_MBIT:
        return cluster
    faster = mbit / FITTED_MBIT
    across = cluster.across
    rates = tuple((size, rate * faster) for size, rate in across.rates)
    changed = collectives.Link(across.delay_s, across.bytes_per_s * faster, rates)
    return dataclasses.replace(cluster, across=changed)
