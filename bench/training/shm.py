"""``python bench/training/shm.py``: ranks of one host through shared memory, against torch's gloo.

Two figures, both ratios of pairs that are interleaved in one run (A B B A blocks), so that other
work on the machine meets both sides alike: the time of one all-reduce, and the rate of two ranks
under DistributedDataParallel over the rate of two processes that train side by side on their own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import torch._dynamo  # DDP loads it at its first use
from pairs import Row
from torch import distributed, nn
from torch.nn import parallel

from quintile.testing import forked
from quintile_trainer import shm
from quintile_trainer.models import resnet

WORLD = 2
SUMS = {"4 KiB": (1024, 300, 10.0), "1 MiB": (262_144, 40, 3.0), "64 MiB": (16_777_216, 2, 2.0)}
"""Name: elements, repeats in one part of a block, bar."""
RATE_BAR = 0.90
SAMPLES = 2000
QUIET = 0.10
"""Blocks in which other work took more of the processors than this are left out ..."""
PATIENCE = 3
"""... as long as this many times the wanted blocks bring enough of them; else all count."""


class Net(nn.Module):
    """A usual network for 28 x 28 images: 1.1 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(6272, 160), nn.ReLU(), nn.Linear(160, 10),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the scores of a batch."""
        return self.layers(images)


def _perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU(),
        nn.Linear(512, 10),
    )  # fmt: skip


MODELS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "CNN": (Net, 64, 4),
    "perceptron": (_perceptron, 128, 20),
    "resnet18": (lambda: resnet.build("resnet18", channels=1, classes=10, size=28), 16, 1),
}
"""Name: what makes it, batch size of a rank, steps in one part of a block."""


def main() -> None:
    """Measure, print the table, and store it as JSON with ``--out``."""
    parser = argparse.ArgumentParser(prog="bench/training/shm.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer blocks, no resnet18")
    parser.add_argument("--out", type=Path, help="where to write the rows as JSON")
    asked = parser.parse_args()
    rows = measure(quick=asked.quick)
    print(f"{'what':52} {'ours':>10} {'peer':>10} {'ratio':>6}  95 % interval   bar   met")
    for row in rows:
        print(
            f"{row.name:52} {row.ours:10.4g} {row.peer:10.4g} {row.ratio:6.2f}  "
            f"{row.low:6.2f} - {row.high:5.2f}  {row.bar:5.2f}  {'yes' if row.met else 'NO'}"
        )
    if asked.out:
        asked.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def measure(*, quick: bool) -> list[Row]:
    """Return all rows."""
    blocks = 7 if quick else 15
    models = [name for name in MODELS if not (quick and name == "resnet18")]
    with (
        tempfile.TemporaryDirectory() as folder,
        forked.ranks(WORLD, _rank, Path(folder), blocks, models) as ranks,
    ):
        results = [rank.result(timeout_s=1200) for rank in ranks]
    rows = []
    kept = {name: quiet_blocks(results[0][f"{name} noise"], blocks) for name in (*SUMS, *models)}
    for result in results:
        for key, values in result.items():
            name, _, what = key.rpartition(" ")
            if name in kept and what != "noise":
                result[key] = [values[block] for block in kept[name]]
    for name, (_, _, bar) in SUMS.items():
        ours, peer = _slowest(results, name, "shm"), _slowest(results, name, "gloo")
        ratios = [theirs / mine for mine, theirs in zip(ours, peer, strict=True)]
        rows.append(_row(f"all-reduce {name} / torch gloo", "us", ours, peer, ratios, bar))
    for name in models:
        rows += _rates(name, results)
    return rows


def _rates(name: str, results: Sequence[dict[str, list[float]]]) -> list[Row]:
    """Return the rows of a model; ranks that wait for each other are as fast as the slower one."""
    size = results[0][f"size of {name}"][0] / 1e6
    mean = [statistics.fmean(pair) for pair in zip(*_of(results, name, "alone"), strict=True)]
    slower = _slowest(results, name, "alone")
    rows = []
    for way, peer, words, bar in (
        ("shm", mean, "2 alone", RATE_BAR),
        ("shm", slower, "slower of 2 alone", 0.0),
        ("gloo", mean, "2 alone", 0.0),
    ):
        ours = _slowest(results, name, way)
        ratios = [free / mine for mine, free in zip(ours, peer, strict=True)]
        title = f"{name} ({size:.1f} M): {way}, 2 ranks / {words}"
        rows.append(_row(title, "us a step", ours, peer, ratios, bar))
    return rows


def quiet_blocks(noise: Sequence[float], wanted: int) -> list[int]:
    """Return the quiet blocks; all of them, with a word of warning, when they are too few."""
    quiet = [block for block, value in enumerate(noise) if value <= QUIET]
    if len(quiet) >= min(wanted, 5):
        return quiet
    print(f"other work took {statistics.median(noise):.0%} of the processors: inconclusive")
    return list(range(len(noise)))


def _of(results: Sequence[dict[str, list[float]]], name: str, way: str) -> list[list[float]]:
    return [result[f"{name} {way}"] for result in results]


def _slowest(results: Sequence[dict[str, list[float]]], name: str, way: str) -> list[float]:
    """Return, for each block, the time of the slower rank."""
    return [max(pair) for pair in zip(*_of(results, name, way), strict=True)]


def _row(
    name: str, unit: str, ours: list[float], peer: list[float], ratios: list[float], bar: float
) -> Row:
    """Return the median over the blocks; ``met`` goes by the interval's bad end."""
    chance = random.Random(0)
    medians = sorted(
        statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(SAMPLES)
    )
    low, high = medians[int(SAMPLES * 0.025)], medians[int(SAMPLES * 0.975)]
    median = statistics.median
    return Row(
        name,
        median(ours) * 1e6,
        median(peer) * 1e6,
        median(ratios),
        low,
        high,
        bar,
        low >= bar,
        unit,
    )


def _rank(
    _tell: Callable[[object], None],
    rank: int,
    world_size: int,
    folder: Path,
    blocks: int,
    models: list[str],
) -> dict[str, list[float]]:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = distributed.FileStore(str(folder / "store"), world_size)
    group = shm.join(distributed.PrefixStore("shm", store), rank, world_size)
    distributed.init_process_group(
        "gloo", store=distributed.PrefixStore("gloo", store), rank=rank, world_size=world_size
    )
    found: dict[str, list[float]] = {}
    for name, (elements, repeats, _) in SUMS.items():
        values = torch.zeros(elements)
        ways = {"shm": group.all_reduce, "gloo": distributed.all_reduce}
        parts = {way: _repeat(call, values, repeats) for way, call in ways.items()}
        interleave(name, parts, blocks, found)
    for name in models:
        interleave(name, _trainers(name, group, rank, found), blocks, found)
    group.close()
    distributed.destroy_process_group()
    return found


def _repeat(
    call: Callable[[torch.Tensor], object], values: torch.Tensor, repeats: int
) -> Callable[[], float]:
    def part() -> float:
        begun = time.perf_counter()
        for _ in range(repeats):
            call(values)
        return (time.perf_counter() - begun) / repeats

    return part


def _trainers(
    name: str, group: shm.Group, rank: int, found: dict[str, list[float]]
) -> dict[str, Callable[[], float]]:
    make, batch, steps = MODELS[name]
    generator = torch.Generator().manual_seed(rank)
    images = torch.randn(batch, 1, 28, 28, generator=generator)
    labels = torch.randint(0, 10, (batch,), generator=generator)
    parts = {}
    for way in ("alone", "shm", "gloo"):
        torch.manual_seed(0)
        model = make()
        found[f"size of {name}"] = [float(sum(value.numel() for value in model.parameters()))]
        if way != "alone":
            model = parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
        if way == "shm":
            shm.register(model, group)
        parts[way] = _steps(model, images, labels, steps)
    return parts


def _steps(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int
) -> Callable[[], float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def part() -> float:
        begun = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        return (time.perf_counter() - begun) / steps

    return part


def interleave(
    name: str, parts: dict[str, Callable[[], float]], blocks: int, found: dict[str, list[float]]
) -> None:
    """Run every part twice a block, there and back; both ranks begin each at the same time."""
    ways = list(parts)
    noise = torch.zeros(1, dtype=torch.float64)
    quiet = 0
    for block in range(PATIENCE * blocks + 1):
        times: dict[str, float] = dict.fromkeys(ways, 0.0)
        order = ways[block % len(ways) :] + ways[: block % len(ways)]
        before = _processors()
        for way in (*order, *reversed(order)):
            distributed.barrier()
            times[way] += parts[way]() / 2
        if block == 0:  # it warms up
            continue
        noise[0] = _others(before, _processors())
        distributed.all_reduce(noise, distributed.ReduceOp.SUM)
        for way in ways:
            found.setdefault(f"{name} {way}", []).append(times[way])
        found.setdefault(f"{name} noise", []).append(float(noise[0]))
        quiet += float(noise[0]) <= QUIET
        if quiet >= blocks:
            return


def _processors() -> tuple[float, float, float]:
    """Return seconds of all processors in all, of them busy, and those of this process."""
    line = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    ticks = [int(value) / os.sysconf("SC_CLK_TCK") for value in line]
    idle = ticks[3] + ticks[4]
    used = resource.getrusage(resource.RUSAGE_SELF)
    return sum(ticks), sum(ticks) - idle, used.ru_utime + used.ru_stime


def _others(before: tuple[float, ...], after: tuple[float, ...]) -> float:
    """Return this rank's part of the share of the processors that other work took."""
    total, busy, own = (late - early for early, late in zip(before, after, strict=True))
    return (busy / WORLD - own) / max(total, 0.01)


if __name__ == "__main__":
    main()
