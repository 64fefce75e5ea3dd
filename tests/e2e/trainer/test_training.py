"""Training on real images, alone and with two workers: quality, parity, what is left behind."""

from __future__ import annotations

import json
import os
import pathlib
import signal
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing import event_accumulator

from quintile.testing import digits
from quintile_trainer.data import decode
from quintile_trainer.models import resnet

pytestmark = pytest.mark.torch


def differences(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_digits_are_learnt_by_one_worker(workshop: Any) -> None:
    run = workshop.run(iterations=400, batch_size=32, eval_every=100)
    run.finish()
    report = run.report()
    assert report["evaluation"]["metrics"]["accuracy"] >= 0.97
    assert (report["steps"], report["global_batch"], report["train_samples"]) == (400, 32, 1437)
    confusion = np.array(report["evaluation"]["confusion"])
    assert confusion.sum() == report["evaluation"]["count"] == 360
    assert np.trace(confusion) / 360 == pytest.approx(report["evaluation"]["metrics"]["accuracy"])
    assert sorted(run.curve()) == list(range(5, 401, 5))
    assert sorted(run.curve("eval/accuracy")) == [100, 200, 300, 400]
    rates = list(run.curve("learning_rate").values())
    assert max(rates) == pytest.approx(0.07)
    assert rates[0] < max(rates) > rates[-1]
    assert "trained 400 steps" in run.printed()
    assert run.fake.known.commits[-1].manifest.step == 400
    check_published_model(run)


def check_published_model(run: Any) -> None:
    """The published files are enough to answer as the report says."""
    about = json.loads(run.artifact("model.json"))
    assert about["classes"] == list(digits.CLASSES)
    assert about["dataset"]["digest"] == run.fake.known.access.digest
    size = min(about["size"])
    model = resnet.build(about["model"], channels=about["channels"], classes=10, size=size)
    model.load_state_dict(run.weights())
    images, truth = held_out()
    with torch.inference_mode():
        answers = model((images / 255 - about["mean"][0]) / about["std"][0]).argmax(dim=1)
    accuracy = float((answers == truth).float().mean())
    assert accuracy == pytest.approx(run.report()["evaluation"]["metrics"]["accuracy"])
    assert about["parameters"] == sum(value.numel() for value in model.parameters())


def held_out() -> Any:
    """Return images [360, 1, 8, 8] and truth of the held-out digits."""
    chosen = digits.pngs()[:: digits.TEST_EVERY]
    pixels = [decode.decode(data, size=(8, 8), channels=1) for data, _ in chosen]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()
    return images, torch.tensor([digit for _, digit in chosen])


def test_two_workers_compute_what_one_computes(workshop: Any) -> None:
    """Equal global batches, 20 steps: two halves add up, also in the short last batch of 1437."""
    alone = workshop.run(iterations=50, batch_size=32, learning_rate=0.01, report=1)
    alone.finish()
    both = workshop.run(workers=2, iterations=50, batch_size=16, learning_rate=0.01, report=1)
    both.finish()
    one, two = alone.curve(), both.curve()
    assert sorted(one) == sorted(two) == list(range(1, 51))
    assert max(abs(one[step] - two[step]) for step in range(1, 21)) <= 1e-5
    assert max(abs(one[step] - two[step]) for step in one) <= 1e-4
    assert differences(alone.weights(), both.weights()) <= 1e-4
    for run in (alone, both):
        assert run.report()["evaluation"]["count"] == 360
    assert both.report()["world_size"] == 2
    # Both ranks read one copy of the data.
    folder = both.folder / "cache" / "quintile-shards"
    kept = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    access = both.fake.known.access
    assert kept == {
        access.manifest_sha256,
        access.labels_sha256,
        *(shard.sha256 for shard in access.shards),
    }


def test_tensorboard_reads_what_two_generations_wrote(
    workshop: Any, tmp_path: pathlib.Path
) -> None:
    run = workshop.run(iterations=60, every=20)
    [agent] = run.start()
    run.until_step(31)
    os.kill(agent.ranks()[0], signal.SIGKILL)
    run.finish([agent])
    assert run.fake.known.generation == 2
    folder = tmp_path / "events"
    folder.mkdir()
    for key, data in run.fake.known.objects.items():
        if "tfevents" in key:
            (folder / key.rpartition("/")[2]).write_bytes(data)
    assert len(list(folder.iterdir())) == 2
    reader = event_accumulator.EventAccumulator(str(folder))
    reader.Reload()
    assert {"train/loss", "learning_rate", "eval/accuracy"} <= set(reader.Tags()["scalars"])
    events = reader.Scalars("train/loss")
    steps = [event.step for event in events]
    # What the first generation did beyond its checkpoint is purged by the second one's mark.
    assert steps == list(range(5, 61, 5))
    assert events[-1].value == pytest.approx(run.curve()[60], rel=1e-6)
