"""Modes ssp and async: leases, bounds, and cuts that are consistent while everybody pushes."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from quintile_trainer.ps import client, job, ledger, optimizers, settings

# Odd sizes over several chunks and servers: a push that is in a cut by half shows at once.
SIZES = {"a": 40_001, "b": 777, "c": 90_003}
TOTAL = 3000
LEASE = 7


def join(cluster: Any, rank: int, about: settings.Consistency, **more: Any) -> client.Client:
    done = more.pop("done", ())
    parameters = more.pop("parameters", None)
    return client.join(
        cluster.team,
        cluster.secret,
        worker=rank,
        parameters=parameters or {name: torch.zeros(size) for name, size in SIZES.items()},
        work=client.Work(optimizers.Rule("sgd"), consistency=about, chunk_bytes=1 << 16),
        beginning=client.Beginning(positions=job.Positions(TOTAL, block=1000, done=done)),
    )


def count(lease: ledger.Lease) -> dict[str, torch.Tensor]:
    """Gradients that make every parameter count the positions that are part of the model."""
    size = float(lease.stop - lease.start)
    return {name: torch.full((n,), -size) for name, n in SIZES.items()}


def train(cluster: Any, rank: int, about: settings.Consistency) -> dict[str, Any]:
    server = join(cluster, rank, about)
    cuts: list[Any] = []
    leases = []
    while (lease := server.lease(LEASE + rank)) is not None:
        leases.append((lease.start, lease.stop))
        server.exchange(server.clock, count(lease), rate=1.0)
        idle = not cuts or cuts[-1].is_read
        if rank == 0 and idle and len(cuts) < 5 and server.clock % 10 == 0:
            cuts.append(server.checkpoint_cut())
    if cuts:
        cuts[-1].contents()
    server.barrier()
    final = server.checkpoint_cut() if rank == 0 else None
    found = [described(cut.contents()) for cut in (*cuts, final) if cut is not None]
    server.barrier()
    statistics = server.statistics()
    server.barrier()
    server.close()
    return {"leases": leases, "cuts": found, "statistics": statistics}


def described(contents: Any) -> dict[str, Any]:
    values = torch.cat([value.view(-1) for value in contents.parameters.values()]).unique()
    return {
        "values": values.tolist(),
        "clocks": contents.clocks,
        "done": contents.positions.done,
    }


@pytest.mark.parametrize(
    "about",
    [settings.Consistency("async"), settings.Consistency("ssp", 3), settings.Consistency("ssp", 0)],
    ids=["async", "ssp-3", "ssp-0"],
)
def test_cuts_are_consistent_under_load_and_every_position_counts_once(
    cluster: Callable[..., Any], about: settings.Consistency
) -> None:
    running = cluster(servers=3, workers=3)
    found = [worker.result() for worker in running.work(train, about)]
    leased = sorted(lease for worker in found for lease in worker["leases"])
    assert [stop for _start, stop in leased[:-1]] == [start for start, _stop in leased[1:]]
    assert (leased[0][0], leased[-1][1]) == (0, TOTAL)
    assert not [lease for lease in leased if lease[0] // 1000 != (lease[1] - 1) // 1000]
    cuts = found[0]["cuts"]
    assert len(cuts) >= 2
    for cut in cuts:
        # All elements of all servers agree on how many positions are in the model, and the
        # ledger of the same cut says the same.
        positions = sum(stop - start for start, stop in cut["done"])
        assert cut["values"] == [float(positions)]
    assert cuts[-1]["values"] == [float(TOTAL)]
    assert found[0]["statistics"].finished == TOTAL
    for server in running.servers:
        server.result()


def train_through(cluster: Any, rank: int, port: int) -> Any:
    cluster.team = dataclasses.replace(cluster.team, port=port)
    return train(cluster, rank, settings.Consistency("async"))


def test_connections_that_break_all_the_time_change_nothing(
    cluster: Callable[..., Any], tap: Callable[..., Any]
) -> None:
    limits = settings.Limits(meeting_s=30, answer_s=30, reconnect_s=30, cut_s=30, slice_s=0.02)
    running = cluster(servers=2, workers=3, limits=limits)
    drawn = random.Random(1)
    breaks = tuple(drawn.randrange(300_000, 3_000_000) for _ in range(30))
    # Cuts read over connections of their own, which must hold: they are not broken here.
    with tap(running.team.port, breaks=breaks, spared=b'"reader"') as (port, _seen):
        found = [worker.result() for worker in running.work(train_through, port)]
    assert found[0]["statistics"].duplicates > 0
    assert found[0]["cuts"][-1]["values"] == [float(TOTAL)]
    for cut in found[0]["cuts"]:
        assert cut["values"] == [float(sum(stop - start for start, stop in cut["done"]))]


def go_on(cluster: Any, rank: int, about: settings.Consistency, cut: dict[str, Any]) -> Any:
    (value,) = cut["values"]
    parameters = {name: torch.full((size,), value) for name, size in SIZES.items()}
    server = join(cluster, rank, about, done=cut["done"], parameters=parameters)
    leases = []
    while (lease := server.lease(LEASE)) is not None:
        leases.append((lease.start, lease.stop))
        server.exchange(server.clock, count(lease), rate=1.0)
    server.barrier()
    server.pull()
    values = server.values().unique().tolist()
    server.close()
    return leases, values


def test_another_generation_does_what_the_cut_does_not_hold(cluster: Callable[..., Any]) -> None:
    about = settings.Consistency("async")
    cut = cluster(servers=3, workers=3).work(train, about)[0].result()["cuts"][0]
    assert 0 < cut["values"][0] < TOTAL
    found = [
        w.result() for w in cluster(servers=2, workers=2, generation=2).work(go_on, about, cut)
    ]
    redone = [lease for leases, _values in found for lease in leases]
    held = sum(stop - start for start, stop in cut["done"])
    assert held + sum(stop - start for start, stop in redone) == TOTAL
    assert found[0][1] == found[1][1] == [float(TOTAL)]


def race(cluster: Any, rank: int, about: settings.Consistency) -> Any:
    """Worker 1 pushes twice only; the others push as far as they may."""
    server = client.join(
        cluster.team,
        cluster.secret,
        worker=rank,
        parameters={"w": torch.zeros(10)},
        work=client.Work(optimizers.Rule("sgd"), consistency=about),
    )
    steps = 2 if rank == 1 else 6
    for step in range(steps):
        server.exchange(step, {"w": torch.ones(10)}, rate=1.0)
        cluster.tell(server.clock)
    if rank == 1:
        while server.statistics().clocks[0] < 2 + about.bound + 1:
            pass
    server.close()
    return server.clock


def test_nobody_is_further_ahead_than_the_bound(cluster: Callable[..., Any]) -> None:
    about = settings.Consistency("ssp", 2)
    running = cluster(servers=2, workers=2)
    fast, slow = running.work(race, about)
    # With its push number 5 worker 0 is 3 ahead of worker 1, which stands at 2: no answer.
    assert [fast.told() for _ in range(4)] == [1, 2, 3, 4]
    assert [slow.told() for _ in range(2)] == [1, 2]
    assert slow.result() == 2
    # Worker 1 left: nobody waits for it any more.
    assert [fast.told() for _ in range(2)] == [5, 6]
    assert fast.result() == 6


def test_staleness_is_counted_in_updates_between_pull_and_push(
    cluster: Callable[..., Any],
) -> None:
    def push_thrice(given: Any, rank: int) -> Any:
        server = client.join(
            given.team,
            given.secret,
            worker=rank,
            parameters={"w": torch.zeros(10)},
            work=client.Work(optimizers.Rule("sgd"), consistency=settings.Consistency("async")),
        )
        server.barrier()
        if rank == 0:
            for step in range(3):
                server.exchange(step, {"w": torch.ones(10)}, rate=1.0)
        server.barrier()
        if rank == 1:
            server.exchange(0, {"w": torch.ones(10)}, rate=1.0)
        server.barrier()
        found = server.statistics().staleness
        server.barrier()
        server.close()
        return found

    found = cluster(servers=1, workers=2).work(push_thrice)
    assert found[0].result() == {0: 3, 3: 1}


def test_a_cut_ends_with_the_process_that_asked_for_it(cluster: Callable[..., Any]) -> None:
    """Whoever held pushes for a cut and died does not hold them for ever."""

    def leave_a_cut(given: Any, rank: int) -> Any:
        about = settings.Consistency("ssp", 5)
        server = join(given, rank, about)
        given.tell("joined")
        if rank == 0:
            cut = server.checkpoint_cut()
            assert not cut.is_read
            server.abandon()
            return None
        for step in range(3):
            server.exchange(step, {}, rate=1.0)
            given.tell(step)
        return None

    running = cluster(servers=2, workers=2, limits=settings.Limits(reconnect_s=20, slice_s=0.02))
    workers = running.work(leave_a_cut)
    assert [worker.told() for worker in workers] == ["joined", "joined"]
    workers[0].result()
    # Worker 0 is gone at clock 0; the cut named clock 1 and is forgotten, so worker 1 goes on.
    assert [workers[1].told() for _ in range(3)] == [0, 1, 2]
