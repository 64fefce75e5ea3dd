"""Two ranks of mode ``ddp`` against two processes that train side by side on their own.

    python bench/training/efficiency.py [--quick] [--out FILE]

What mode ``ddp`` of our loop does with ``run.comm`` shm and gloo, on a network of 1.1 million
parameters. All ways are interleaved in one run (A B C C B A), both ranks begin each at the same
time, and ranks that wait for each other are as fast as the slower one. The ratio is the time of a
step alone (mean of the two) over the time of a step together; one thread for each rank. Blocks in
which other work took much of the processors are left out. Beside the slower of the two alone, what
remains is the exchange itself, without the wait for a rank that other work holds up.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import socket
import statistics
import tempfile
import time
from collections.abc import Callable

import pairs
import shm as networks
import torch
from torch import nn

from quintile.testing import forked, ranks
from quintile_trainer import worker_env
from quintile_trainer.modes import ddp, interface, single

WORLD = 2
BAR = 0.90
WAYS = ("alone", "shm", "gloo")
BESIDE: dict[str, Callable[[tuple[float, ...]], float]] = {
    "2 alone": statistics.fmean,
    "slower of 2 alone": max,
}
PAIRS = (
    ("shm", "2 alone", BAR),
    ("shm", "slower of 2 alone", 0.0),
    ("gloo", "2 alone", 0.0),
    ("gloo", "slower of 2 alone", 0.0),
)
Times = dict[str, list[float]]


@dataclasses.dataclass(frozen=True)
class Order:
    """What the ranks measure, and where they meet."""

    folder: pathlib.Path
    port: int
    names: list[str]
    blocks: int


def main() -> None:
    """Measure, print, and store the rows as JSON with ``--out``."""
    parser = argparse.ArgumentParser(prog="bench/training/efficiency.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer blocks, one network")
    parser.add_argument("--out", type=pathlib.Path, help="where to write the rows as JSON")
    asked = parser.parse_args()
    rows = measure(quick=asked.quick)
    for row in rows:
        print(
            f"{row.name}: {row.ours:.4g} {row.unit} beside {row.peer:.4g}, {row.ratio:.3f} "
            f"({row.low:.3f} to {row.high:.3f}), bar {row.bar}: {'met' if row.met else 'MISSED'}"
        )
    if asked.out:
        asked.out.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")


def measure(*, quick: bool) -> list[pairs.Row]:
    """Return the rows: for each network shm with the bar, and what explains it without one."""
    blocks = 9 if quick else 25
    names = ["CNN"] if quick else ["CNN", "perceptron"]
    with (
        tempfile.TemporaryDirectory() as folder,
        forked.ranks(WORLD, train, Order(pathlib.Path(folder), _port(), names, blocks)) as started,
    ):
        results = [rank.result(timeout_s=1200) for rank in started]
    rows = []
    for name in names:
        kept = networks.quiet_blocks(results[0][f"{name} noise"], blocks)
        by_way = {
            way: [tuple(result[f"{name} {way}"][block] for result in results) for block in kept]
            for way in WAYS
        }
        size = sum(value.numel() for value in networks.MODELS[name][0]().parameters()) / 1e6
        for way, beside, bar in PAIRS:
            together = [max(pair) * 1e6 for pair in by_way[way]]
            alone = [BESIDE[beside](pair) * 1e6 for pair in by_way["alone"]]
            title = f"ddp over {way}, 2 ranks / {beside}, {name} ({size:.1f} M)"
            rows.append(pairs.row(title, together, alone, unit="us a step", bar=bar))
    return rows


def train(
    _tell: Callable[[object], None],
    rank: int,
    world_size: int,
    order: Order,
) -> Times:
    """Be one rank: return seconds a step by network and way, one figure for each block."""
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    told = ranks.variables(order.folder / str(rank), rank=rank, world_size=world_size)
    env = worker_env.load(told)
    # One process group for both ways; one of them does without the shared memory.
    both = ddp.meet(dataclasses.replace(env, master_port=order.port))
    modes: dict[str, interface.Mode] = {
        "alone": single.Single(),
        "shm": both,
        "gloo": ddp.Ddp(rank, world_size),
    }
    found: Times = {}
    for name in order.names:
        parts = {way: steps(name, rank, mode) for way, mode in modes.items()}
        networks.interleave(name, parts, order.blocks, found)
    both.close()
    return found


def steps(name: str, rank: int, mode: interface.Mode) -> Callable[[], float]:
    """Return what does some steps and returns the seconds of one."""
    make, batch, count = networks.MODELS[name]
    generator = torch.Generator().manual_seed(rank)
    images = torch.randn(batch, 1, 28, 28, generator=generator)
    labels = torch.randint(0, 10, (batch,), generator=generator)
    torch.manual_seed(0)
    model = make()
    mode.prepare(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    scale = 1.0 / (batch * mode.world_size)

    def part() -> float:
        begun = time.perf_counter()
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(model(images), labels, reduction="sum")
            with mode.sync(last=True):
                (loss * scale).backward()
            optimizer.step()
        return (time.perf_counter() - begun) / count

    return part


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
