"""Mode ps: workers and parameter servers as processes; all orderings learn, losses are survived."""

from __future__ import annotations

import collections
import hashlib
import io
import json
import os
import pathlib
import random
import re
import signal
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest

pytestmark = pytest.mark.torch
EXAMPLE = pathlib.Path(__file__).parents[3] / "examples" / "servers" / "train.py"


def servers(replicas: int, **of: Any) -> dict[str, Any]:
    return {"ps": {"replicas": replicas, **of}}


ORDERINGS: list[dict[str, Any]] = [
    {"consistency": "sync"},
    {"consistency": "ssp", "staleness": 2},
    {"consistency": "async"},
]


@pytest.mark.parametrize("ordering", ORDERINGS, ids=lambda one: one["consistency"])
def test_digits_are_learnt_in_every_ordering(workshop: Any, ordering: Mapping[str, Any]) -> None:
    run = workshop.run(
        workers=2, iterations=400, batch_size=16, every=150, run_spec=servers(2, **ordering)
    )
    run.finish()
    report = run.report()
    assert report["evaluation"]["metrics"]["accuracy"] >= 0.95
    assert (report["steps"], report["world_size"], report["evaluation"]["count"]) == (400, 2, 360)
    told = report["parameter_servers"]
    assert (told["servers"], told["consistency"]) == (2, ordering["consistency"])
    assert told["imbalance"] <= 1.02
    assert told["duplicates"] == 0
    steps = [commit.manifest.step for commit in run.fake.known.commits]
    assert steps[-1] == 400
    assert len(steps) >= 2
    assert {end.exit_code for end in run.fake.known.exits} == {0}
    if ordering["consistency"] == "sync":
        assert told["staleness"] == {}
    else:
        bound = 2 * ordering.get("staleness", 400) + 1
        assert max(map(int, told["staleness"])) <= bound
        assert run.curve("staleness_mean")


def test_sync_computes_what_all_reduce_computes(workshop: Any) -> None:
    """Functions with GroupNorm, 20 steps of rate .01: two modes, one result."""

    def model_fn(hparams: Mapping[str, Any]) -> Any:
        from torch import nn

        return nn.Sequential(
            nn.Conv2d(hparams["channels"], 16, 3, padding=1),
            nn.GroupNorm(4, 16),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 64, hparams["classes"]),
        )

    model_fn.__module__ = "__main__"
    digest, data = workshop.functions({"model_fn": model_fn})
    weights = {}
    curves = {}
    for name, spec in {"ddp": {"mode": "ddp"}, "ps": servers(3)}.items():
        run = workshop.run(
            workers=2,
            estimator={"functions": {"bundle": digest}},
            iterations=20,
            batch_size=16,
            learning_rate=0.01,
            report=1,
            run_spec=spec,
        )
        run.fake.known.bundles[digest] = data
        run.finish()
        weights[name], curves[name] = run.weights(), run.curve()
    assert weights["ps"].keys() == weights["ddp"].keys()
    for name, value in weights["ddp"].items():
        assert float((weights["ps"][name] - value).abs().max()) <= 1e-5, name
    assert sorted(curves["ps"]) == list(range(1, 21))
    assert max(abs(curves["ps"][step] - curves["ddp"][step]) for step in curves["ddp"]) <= 1e-5


@pytest.mark.parametrize("ordering", ORDERINGS, ids=lambda one: one["consistency"])
def test_a_killed_server_and_a_killed_worker_are_survived(
    workshop: Any, chance: random.Random, ordering: Mapping[str, Any]
) -> None:
    run = workshop.run(
        workers=2, iterations=200, batch_size=16, every=20, run_spec=servers(2, **ordering)
    )
    started = run.start()
    run.until_step(chance.randrange(25, 60))
    victim = chance.randrange(2)
    os.kill(started[2 + victim].ranks()[2 + victim], signal.SIGKILL)
    run.fake.wait(lambda known: known.generation == 2 and known.plan is not None, timeout_s=60)
    run.until_step(chance.randrange(80, 120))
    victim = chance.randrange(2)
    os.kill(started[victim].ranks()[victim], signal.SIGKILL)
    run.finish(started)
    assert run.fake.known.generation == 3
    resumed = [plan.resume.step for plan in run.fake.known.plans if plan.resume is not None]
    assert len(resumed) == 2
    report = run.report()
    assert (report["steps"], report["evaluation"]["count"]) == (200, 360)
    assert report["evaluation"]["metrics"]["accuracy"] >= 0.93
    assert run.fake.known.commits[-1].manifest.step == 200
    causes = {end.reason for end in run.fake.known.exits if end.exit_code}
    assert "Killed" in causes
    assert causes <= {"Killed", "PeerLost"}


class Counted:
    """Notes every sample that is taken, in a file of the run's folder. A map-style dataset."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return 52

    def __getitem__(self, item: int) -> Any:
        import torch

        with open(f"{self.folder}/taken", "a") as file:  # noqa: PTH123
            file.write(f"{item}\n")
        return torch.full((4,), float(item)), item % 2


@pytest.mark.parametrize("ordering", ORDERINGS, ids=lambda one: one["consistency"])
def test_suspended_and_resumed_every_sample_counts_once(
    workshop: Any, chance: random.Random, ordering: Mapping[str, Any]
) -> None:
    def model_fn(_hparams: Mapping[str, Any]) -> Any:
        import torch

        return torch.nn.Linear(4, 2)

    def input_fn(split: str, hparams: Mapping[str, Any]) -> Any:
        return Counted(hparams["folder"]) if split == "train" else None

    model_fn.__module__ = input_fn.__module__ = Counted.__module__ = "__main__"
    digest, data = workshop.functions({"model_fn": model_fn, "input_fn": input_fn})
    folder = workshop.folder / f"counted-{ordering['consistency']}"
    folder.mkdir()
    epochs = 60
    run = workshop.run(
        workers=2,
        estimator={"functions": {"bundle": digest}},
        every=1000,
        batch_size=4,
        epochs=epochs,
        folder=folder,
        run_spec=servers(2, **ordering),
    )
    run.fake.known.bundles[digest] = data
    first = run.interrupt(run.start(), at=chance.randrange(3, 60))
    run.finish()
    taken = collections.Counter((folder / "taken").read_text().split())
    assert taken == {str(item): epochs for item in range(52)}
    last = run.fake.known.commits[-1].manifest
    assert 0 < first < epochs * 7
    assert (last.step, last.epoch, last.cursor) == (epochs * 7, epochs, 0)


def scripted(workshop: Any, code: str, run_spec: Mapping[str, Any], *args: str) -> Any:
    """A run of a script on two workers."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("header.json", json.dumps({"format": 1, "python": "3.11"}))
        archive.writestr("train.py", code)
    digest = hashlib.sha256(stream.getvalue()).hexdigest()
    block = {"bundle": digest, "entry": "train.py", "args": list(args)}
    run = workshop.run(workers=2, estimator={"script": block}, run_spec=run_spec)
    run.fake.known.bundles[digest] = stream.getvalue()
    return run


@pytest.mark.parametrize("ordering", ORDERINGS, ids=lambda one: one["consistency"])
def test_a_script_trains_with_its_optimizer_on_servers(
    workshop: Any, ordering: Mapping[str, Any]
) -> None:
    run = scripted(workshop, EXAMPLE.read_text(), servers(2, **ordering), "--steps", "300")
    run.finish()
    said = run.printed()
    found = re.search(r"accuracy on what it learned from: (\S+)", said)
    assert found is not None, said
    assert float(found[1]) >= 0.95
    assert f"'consistency': '{ordering['consistency']}'" in said
    assert "'pushes': [300, 300]" in said
    assert {end.exit_code for end in run.fake.known.exits} == {0}


def test_a_script_that_meets_torch_distributed_there_is_told_so(workshop: Any) -> None:
    code = "import torch.distributed as d\nd.init_process_group('gloo')\n"
    run = scripted(workshop, code, servers(1))
    for agent in run.start():
        assert agent.wait(100) == 1
    assert any("MASTER_ADDR" in end.first_error for end in run.fake.known.exits)
    assert run.fake.known.generation == 1


def test_a_script_may_leave_its_servers_alone(workshop: Any) -> None:
    run = scripted(workshop, "print('nothing to do')", servers(1))
    run.finish()
    assert "never used its parameter servers" in run.printed()


def test_what_servers_cannot_do_is_refused_at_once(workshop: Any) -> None:
    refused = {
        "clip_norm": (servers(1), {"clip_norm": 1.0}),
        "patience": (servers(1, consistency="async"), {"patience": 2, "eval_every": 10}),
    }
    for name, (run_spec, hparams) in refused.items():
        run = workshop.run(workers=2, iterations=20, run_spec=run_spec, **hparams)
        for agent in run.start():
            assert agent.wait(100) == 1
        end = run.fake.known.exits[0]
        assert (end.reason, name in end.first_error) == ("InvalidSpec", True)
        assert run.fake.known.generation == 1
