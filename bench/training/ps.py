"""Parameter servers against torch RPC, and ssp and async against sync with slow workers.

``python bench/training/ps.py [--quick] [--out FILE]`` runs on loopback, prints a table and, with
``--out``, writes its rows as JSON. Pairs are interleaved in one run (A B B A); a ratio is the
median of the blocks' ratios with a 95 % bootstrap interval, and a bar is met when the interval's
bad end meets it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed import rpc

from quintile.testing import forked
from quintile_trainer.ps import client, job, optimizers, server, settings, staleness

SECRET = b"benchmark"
HOST = "127.0.0.1"
TIMEOUT_S = 600.0
DRAWS = 2000
SLOW = 3.0
"""A slow step takes this many times as long."""
CHANCE = 0.1
"""Of a slow step, where slowness is transient."""
Tell = Callable[[object], None]
Row = dict[str, Any]


def main() -> None:
    """Measure, print the table, and store it as JSON with ``--out``."""
    parser = argparse.ArgumentParser(prog="bench/training/ps.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter blocks")
    parser.add_argument("--out", type=Path, help="where to write the rows as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(quick=asked.quick)
    print(f"{'what':48} {'ours':>10} {'peer':>10} {'ratio':>6}  95 % interval   bar   met")
    for row in rows:
        more = ", ".join(f"{key} {value:.3g}" for key, value in row["more"].items())
        print(
            f"{row['name']:48} {row['ours']:10.4g} {row['peer']:10.4g} {row['ratio']:6.2f}  "
            f"{row['low']:6.2f} - {row['high']:5.2f}  {row['bar']:5.2f}  "
            f"{'yes' if row['met'] else 'NO':3}  {row['unit']}; {more}"
        )
    if asked.out:
        asked.out.write_text(json.dumps(rows, indent=1) + "\n")


def measure(*, quick: bool) -> list[Row]:
    """Return all rows."""
    blocks, races, length = (5, 3, 1) if quick else (11, 7, 2)
    slow = {"slow": "persistent", "batch": 32, "step_s": 0.04, "rate": 0.2}
    shaky = {**slow, "slow": "transient", "step_s": 0.02}
    slow["samples"], shaky["samples"] = 3200 * length, 9600 * length
    free, bound = settings.Consistency("async"), settings.Consistency("ssp", 8)
    found = [
        transport("4 KiB", 1024, bar=4.0, blocks=blocks, count=500),
        transport("64 MiB", 16 << 20, bar=1.4, blocks=blocks, count=3),
        race("async / sync, one of 2 workers 3x slow", free, 2, slow, races),
        race("ssp(8) / sync, 4 workers 3x slow at times", bound, 4, shaky, races),
    ]
    found[2]["bar"], found[3]["bar"] = 1.8, 1.2
    found[3]["more"]["ideal"] = ideal(workers=4, bound=8, steps=2000)
    for row in found:
        row["met"] = row["low"] >= row["bar"]
    return found


def start_servers(servers: int, workers: int) -> tuple[settings.Team, list[forked.Forked]]:
    """Return a team, and the processes of its servers."""
    listeners = [socket.create_server((HOST, 0)) for _ in range(servers)]
    team = settings.Team(servers, workers, 1, HOST, listeners[0].getsockname()[1])
    started = [forked.start(_serve, team, n, entry) for n, entry in enumerate(listeners)]
    for listener in listeners:
        listener.close()
    return team, started


def _serve(_tell: Tell, team: settings.Team, number: int, listener: socket.socket) -> None:
    torch.set_num_threads(1)
    server.run(server.Place(team, number, HOST), SECRET, listener=listener)


# Push and pull, against torch RPC.

HELD: dict[str, torch.Tensor] = {}


def transport(name: str, size: int, *, bar: float, blocks: int, count: int) -> Row:
    """Push gradients of ``size`` elements, update by SGD, and get the parameters back."""
    team, servers = start_servers(1, 1)
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    peer = forked.start(_rpc_server, port)
    asking = forked.start(_both, team, port, size, blocks, count)
    mine, theirs = asking.result(timeout_s=TIMEOUT_S)
    row = _row(f"push+pull {name} / torch RPC", mine, theirs, unit="us", factor=1e6)
    row["bar"] = bar
    row["more"] = {}
    for process in (peer, *servers):
        process.result()
    return row


def _both(
    _tell: Tell, team: settings.Team, port: int, size: int, blocks: int, count: int
) -> tuple[list[float], list[float]]:
    """Return seconds of ours and of torch RPC, by block."""
    torch.set_num_threads(1)
    parameters = {"w": torch.zeros(size, requires_grad=True)}
    work = client.Work(optimizers.Rule("sgd"))
    link = client.join(team, SECRET, worker=0, parameters=parameters, work=work)
    link.bind_gradients()
    assert parameters["w"].grad is not None
    parameters["w"].grad.fill_(1.0)
    _join_rpc(port, 0)
    rpc.rpc_sync("rank1", _hold, (size,))
    gradient = torch.ones(size)
    ways: list[Callable[[], object]] = [
        lambda: link.exchange(link.clock, rate=0.01),
        # The best form of the peer: one call for push and pull.
        lambda: rpc.rpc_sync("rank1", _push_pull, (gradient,)),
    ]
    found: tuple[list[float], list[float]] = ([], [])
    for block in range(blocks + 1):
        times: tuple[list[float], list[float]] = ([], [])
        for which in (0, 1, 1, 0) if block % 2 else (1, 0, 0, 1):
            times[which].extend(_timed(ways[which], count))
        for which in (0, 1) if block else ():  # the first block warms up
            found[which].append(statistics.median(times[which]))
    link.close()
    rpc.shutdown()
    return found


def _timed(call: Callable[[], object], count: int) -> list[float]:
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return times


def _rpc_server(_tell: Tell, port: int) -> None:
    torch.set_num_threads(1)
    _join_rpc(port, 1)
    rpc.shutdown()


def _join_rpc(port: int, rank: int) -> None:
    warnings.simplefilter("ignore")
    os.environ.update(MASTER_ADDR=HOST, MASTER_PORT=str(port))
    rpc.init_rpc(f"rank{rank}", rank=rank, world_size=2)


def _hold(size: int) -> None:
    HELD["w"] = torch.zeros(size)


def _push_pull(gradient: torch.Tensor) -> torch.Tensor:
    return HELD["w"].add_(gradient, alpha=-0.01)


# Slow workers.


class Problem:
    """A small network on made-up data.

    A step's time is slept, not computed: it stands for an accelerator that computes while the
    processor is free. With fewer cores than workers nothing else shows what waiting costs.
    """

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        self._inputs = torch.randn(4096, 32, generator=generator)
        teacher = torch.randn(32, 4, generator=generator)
        self._targets = (self._inputs @ teacher).argmax(1)
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 4))

    def loss(self, positions: range) -> torch.Tensor:
        """Return the mean loss over positions of the data, which is repeated."""
        index = torch.tensor([position % len(self._inputs) for position in positions])
        return nn.functional.cross_entropy(self.model(self._inputs[index]), self._targets[index])

    def final(self) -> float:
        """Return the loss over all data."""
        with torch.no_grad():
            return float(self.loss(range(len(self._inputs))))


def race(
    name: str, ordering: settings.Consistency, workers: int, about: dict[str, Any], blocks: int
) -> Row:
    """Train the same number of samples with an ordering and with sync, in turns."""
    kinds = (ordering, settings.Consistency("sync"))
    rates: tuple[list[float], list[float]] = ([], [])
    losses: tuple[list[float], list[float]] = ([], [])
    stale: dict[int, int] = {}
    for block in range(blocks):
        for which in (0, 1) if block % 2 else (1, 0):
            seconds, loss, histogram = _train(workers, kinds[which], about)
            rates[which].append(about["samples"] / seconds)
            losses[which].append(loss)
            stale = histogram if which == 0 else stale
    # A rate is the inverse of a time, so the ratio turns around as well.
    row = _row(name, *([1 / rate for rate in part] for part in rates), unit="samples/s", factor=1.0)
    row["ours"], row["peer"] = (statistics.median(part) for part in rates)
    row["more"] = {
        "loss": statistics.median(losses[0]),
        "sync loss": statistics.median(losses[1]),
        "staleness": staleness.mean(stale),
    }
    return row


def _train(
    workers: int, kind: settings.Consistency, about: dict[str, Any]
) -> tuple[float, float, dict[int, int]]:
    """Return seconds, final loss and the staleness histogram of one run."""
    team, servers = start_servers(1, workers)
    started = [forked.start(_work, team, rank, kind, about) for rank in range(workers)]
    answers = [process.result(timeout_s=TIMEOUT_S) for process in started]
    for process in servers:
        process.result()
    return max(answer[0] for answer in answers), answers[0][1], answers[0][2]


def _work(
    _tell: Tell, team: settings.Team, rank: int, kind: settings.Consistency, about: dict[str, Any]
) -> tuple[float, float, dict[int, int]]:
    torch.set_num_threads(1)
    problem, chance = Problem(), random.Random(rank)
    link = client.join(
        team,
        SECRET,
        worker=rank,
        parameters=dict(problem.model.named_parameters()),
        work=client.Work(optimizers.Rule("sgd", momentum=0.5), consistency=kind),
        beginning=client.Beginning(positions=job.Positions(about["samples"])),
    )
    # A push of one worker alone weighs as much as its part of a common step.
    rate = about["rate"] / (1 if kind.ordering == "sync" else team.workers)
    link.barrier()
    begun = time.perf_counter()
    while (taken := _next(link, rank, kind, about)) is not None:
        link.bind_gradients()
        problem.loss(taken).backward()
        is_slow = rank == 0 if about["slow"] == "persistent" else chance.random() < CHANCE
        time.sleep(about["step_s"] * (SLOW if is_slow else 1.0))
        link.exchange(link.clock, rate=rate)
    link.barrier()
    seconds = time.perf_counter() - begun
    link.pull()
    stale = link.statistics().staleness
    link.barrier()
    link.close()
    return seconds, problem.final(), stale


def _next(
    link: client.Client, rank: int, kind: settings.Consistency, about: dict[str, Any]
) -> range | None:
    """Return the positions of the next step, None at the end."""
    if kind.ordering != "sync":
        lease = link.lease(about["batch"])
        return range(lease.start, lease.stop) if lease is not None else None
    start = (link.clock * link.workers + rank) * about["batch"]
    return range(start, start + about["batch"]) if start < about["samples"] else None


def ideal(*, workers: int, bound: int, steps: int) -> float:
    """Return by how much a bound shortens training when communication costs nothing: simulated."""
    chances = [random.Random(rank) for rank in range(workers)]
    costs = [[SLOW if c.random() < CHANCE else 1.0 for _ in range(steps)] for c in chances]
    together = sum(max(column) for column in zip(*costs, strict=True))
    ends = [[0.0] for _ in range(workers)]
    for step in range(steps):
        gate = max(end[step - bound] for end in ends) if step > bound else 0.0
        for end, cost in zip(ends, costs, strict=True):
            end.append(max(end[step], gate) + cost[step])
    return together / max(end[-1] for end in ends)


# Figures.


def _row(name: str, mine: list[float], peer: list[float], *, unit: str, factor: float) -> Row:
    """Return the figures of times; a ratio above 1 says that ours is faster."""
    ratios = [theirs / ours for ours, theirs in zip(mine, peer, strict=True)]
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(DRAWS))
    return {
        "name": f"ps {name}",
        "ours": statistics.median(mine) * factor,
        "peer": statistics.median(peer) * factor,
        "ratio": statistics.median(ratios),
        "low": medians[int(DRAWS * 0.025)],
        "high": medians[int(DRAWS * 0.975)],
        "unit": unit,
    }


if __name__ == "__main__":
    main()
