"""How long training stands still for a checkpoint, beside ``dcp.async_save`` of torch.

    python bench/training/saving.py [--quick] [--out FILE]

A state of 300 MB (weights and momentum); both sides copy it and write in the background. The stall
is how long the caller waits; writing is over before the next block begins. Blocks take turns.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import tempfile
import time
import warnings

import pairs
import torch
from torch import distributed
from torch.distributed import checkpoint as dcp

from quintile.testing import ranks
from quintile_trainer import checkpoints, worker_env

TENSORS, SIZE = 30, 1_250_000  # x 4 bytes x (weights + momentum) = 300 MB
BAR = 1.0


def main() -> None:
    """Measure, print, and store the rows as JSON with ``--out``."""
    parser = argparse.ArgumentParser(prog="bench/training/saving.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer blocks")
    parser.add_argument("--out", type=pathlib.Path, help="where to write the rows as JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        row = measure(pathlib.Path(folder), blocks=5 if asked.quick else 11)
    pairs.tell([row], asked.out)


def measure(folder: pathlib.Path, *, blocks: int) -> pairs.Row:
    """Return the row of the stall."""
    warnings.simplefilter("ignore")
    distributed.init_process_group(
        "gloo", store=distributed.HashStore(), rank=0, world_size=1
    )  # async_save wants one
    model = {f"layer{n}": torch.randn(SIZE) for n in range(TENSORS)}
    momentum = {f"layer{n}": torch.randn(SIZE) for n in range(TENSORS)}
    saver = checkpoints.Saver(worker_env.load(ranks.variables(folder / "ours")))
    mine, theirs = [], []
    for block in range(blocks + 1):  # the first warms up: pinned copies, allocators
        step = block + 1
        for side in ("ours", "peer") if block % 2 else ("peer", "ours"):
            begun = time.perf_counter()
            if side == "ours":
                saver.save(snapshot(step, model, momentum))
                stall = time.perf_counter() - begun
                saver.wait()
            else:
                place = folder / f"peer-{step}"
                pending = dcp.async_save({"model": model, "optim": momentum}, checkpoint_id=place)
                stall = time.perf_counter() - begun
                pending.result()
                shutil.rmtree(place)
            if block:
                (mine if side == "ours" else theirs).append(1000 * stall)
    saver.close()
    distributed.destroy_process_group()
    return pairs.row(
        "stall of a 300 MB checkpoint / dcp.async_save",
        mine,
        theirs,
        unit="ms",
        bar=BAR,
        better="at most",
    )


def snapshot(
    step: int, model: checkpoints.Tensors, momentum: checkpoints.Tensors
) -> checkpoints.Snapshot:
    """Return copies, as the loop takes them."""
    copied = [{name: one.clone() for name, one in part.items()} for part in (model, momentum)]
    return checkpoints.Snapshot(step, 0, 0, copied[0], copied[1], {})


if __name__ == "__main__":
    main()
