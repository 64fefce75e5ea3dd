"""Fashion-MNIST on the platform: accuracy, images/s, and efficiency beside two independent runs.

    python bench/training/fashion.py FOLDER [--epochs 4] [--out FILE]

FOLDER holds the four official idx files (``train-images-idx3-ubyte.gz`` and so on). A small
convolutional network is trained on the 60,000 images in modes ddp, horovod and ps with two workers
each, and twice in mode single at the same time, each with half of the global batch: what two
processes do that need nothing of each other. Accuracy is that of all 10,000 test images.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
import tempfile
import time
from typing import Any

import pairs

from quintile.sdk import Estimator, Experiment, HParams, RunConfig, blocking
from quintile.testing import instances

BAR = 0.90
GLOBAL_BATCH = 128
SAMPLES = 60_000
MODES = {
    "ddp": {},
    "horovod": {},
    "ps sync": {"mode": "ps", "no_of_ps": 1},
    "ps ssp": {"mode": "ps", "no_of_ps": 1, "consistency": "ssp"},
}


def model_fn(hparams: Any) -> Any:
    """Return the network: 0.42 million parameters."""
    del hparams
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.GroupNorm(8, 64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 49, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def input_fn(split: str, hparams: Any) -> Any:
    """Return images [N, 1, 28, 28] of bytes and classes [N]."""
    import gzip
    import pathlib

    import numpy as np

    kind = "t10k" if split == "eval" else "train"
    folder = pathlib.Path(hparams["folder"])

    def idx(name: str, offset: int) -> Any:
        packed = (folder / f"{kind}-{name}-ubyte.gz").read_bytes()
        return np.frombuffer(gzip.decompress(packed), np.uint8, offset=offset)

    images = idx("images-idx3", 16).reshape(-1, 1, 28, 28)
    return images.copy(), idx("labels-idx1", 8).astype(np.int64)


def main() -> int:
    """Train in every mode, print the table, and store the rows; 1 when an accuracy is below."""
    parser = argparse.ArgumentParser(prog="bench/training/fashion.py", description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="where the idx files lie")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=pathlib.Path, help="where to write the rows as JSON")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        instances.Instance(pathlib.Path(name) / "home") as running,
    ):
        session = blocking.connect(url=running.url, token=running.token)
        try:
            rows = measure(asked.folder.resolve(), asked.epochs)
        finally:
            session.close()
            blocking.forget()
    if asked.out:
        found = [dataclasses.asdict(row) for row in rows]
        asked.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if all(row.met for row in rows) else 1


def measure(folder: pathlib.Path, epochs: int) -> list[pairs.Row]:
    """Return two rows a mode: accuracy, and rate beside two runs that share nothing."""
    steps = epochs * SAMPLES // GLOBAL_BATCH
    alone = [start(f"alone-{n}", folder, steps, {"no_of_workers": 1}) for n in range(2)]
    rates = [report(job)["images_per_second"] for job in alone]
    together = sum(rates)
    print(f"two single runs side by side: {rates[0]:.0f} + {rates[1]:.0f} images/s", flush=True)
    rows = []
    for name, words in MODES.items():
        config = {"mode": name, "no_of_workers": 2, **words}
        begun = time.monotonic()
        done = report(start(name.replace(" ", "-"), folder, steps, config))
        accuracy = done["evaluation"]["metrics"]["accuracy"]
        rate = done["images_per_second"]
        print(
            f"{name} x 2: accuracy {accuracy:.4f}, {rate:.0f} images/s, efficiency "
            f"{rate / together:.3f}, {time.monotonic() - begun:.0f} s in all",
            flush=True,
        )
        rows.append(one(f"Fashion-MNIST, {name} x 2, test accuracy", accuracy, BAR, bar=1.0))
        rows.append(one(f"Fashion-MNIST, {name} x 2 / 2 alone", rate, together, bar=0.0))
    return rows


def one(name: str, ours: float, peer: float, *, bar: float) -> pairs.Row:
    """Return the row of a figure that was taken once."""
    unit = "images/s" if "alone" in name else "share"
    return pairs.row(name, [ours], [peer], unit=unit, bar=bar, better="more")


def start(name: str, folder: pathlib.Path, steps: int, config: dict[str, Any]) -> blocking.Job:
    """Submit a run; the global batch is the same however many workers share it."""
    workers = config["no_of_workers"]
    batch = GLOBAL_BATCH // 2
    hparams = HParams(
        iterations=steps,
        batch_size=batch,
        extra={"folder": str(folder)},
        learning_rate=0.05 if workers == 2 else 0.025,
    )
    return Experiment.run(
        experiment_name=f"fashion-{name}",
        estimator=Estimator.NewClassificationEstimator(model_fn=model_fn),
        hyper_parameters=hparams,
        run_config=RunConfig(checkpoint_frequency_in_steps=500, **config),
        input_function=input_fn,
    ).get_single_job()


def report(job: blocking.Job) -> dict[str, Any]:
    """Return what a run reports at its end."""
    job.wait_until_finish()
    found: dict[str, Any] = job.report()
    return found


if __name__ == "__main__":
    sys.exit(main())
