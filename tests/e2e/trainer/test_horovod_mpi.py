"""Modes horovod (Gloo and MPI controllers) and mpi: real Horovod, real Open MPI, no ssh."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import pathlib
import random
import re
import shutil
import signal
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest
import torch

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("horovod") is None, reason="no Horovod here: run `make horovod`"
    ),
    pytest.mark.skipif(
        shutil.which("mpirun") is None, reason="no Open MPI here: apt-get install openmpi-bin"
    ),
]
EXAMPLE = pathlib.Path(__file__).parents[3] / "examples" / "horovod" / "train.py"
GLOO = {"mode": "horovod"}
MPI = {"mode": "horovod", "horovod": {"controller": "mpi"}}
PLAIN_MPI = {"mode": "mpi"}
MODES = pytest.mark.parametrize(
    "run_spec", [GLOO, MPI, PLAIN_MPI], ids=["horovod-gloo", "horovod-mpi", "mpi"]
)
Spec = Mapping[str, Any]


def differences(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def scripted(workshop: Any, code: str, run_spec: Spec, *args: str) -> Any:
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


@MODES
def test_a_built_in_model_learns_the_digits(workshop: Any, run_spec: Spec) -> None:
    run = workshop.run(workers=2, iterations=200, batch_size=16, every=80, run_spec=run_spec)
    run.finish()
    report = run.report()
    assert (report["steps"], report["world_size"]) == (200, 2)
    assert report["evaluation"]["metrics"]["accuracy"] >= 0.9
    assert [commit.manifest.step for commit in run.fake.known.commits] == [80, 160, 200]
    assert {end.exit_code for end in run.fake.known.exits} == {0}
    assert run.fake.known.generation == 1


@MODES
def test_functions_of_the_user_train(workshop: Any, run_spec: Spec) -> None:
    def model_fn(hparams: Mapping[str, Any]) -> Any:
        flat = torch.nn.Flatten()
        return torch.nn.Sequential(flat, torch.nn.Linear(64, int(hparams["classes"])))

    model_fn.__module__ = "__main__"
    digest, data = workshop.functions({"model_fn": model_fn})
    run = workshop.run(
        workers=2, estimator={"functions": {"bundle": digest}}, iterations=60, run_spec=run_spec
    )
    run.fake.known.bundles[digest] = data
    run.finish()
    assert run.report()["evaluation"]["metrics"]["accuracy"] >= 0.8


@MODES
def test_the_script_of_the_documentation_runs_unchanged(workshop: Any, run_spec: Spec) -> None:
    run = scripted(workshop, EXAMPLE.read_text(), run_spec, "--epochs", "6")
    run.finish()
    found = re.search(r"accuracy (\S+) on 2 ranks", run.printed())
    assert found is not None, run.printed()
    assert float(found[1]) >= 0.9


@pytest.mark.parametrize("run_spec", [GLOO, MPI], ids=["horovod-gloo", "horovod-mpi"])
def test_horovod_computes_what_ddp_computes(workshop: Any, run_spec: Spec) -> None:
    given = {"iterations": 20, "batch_size": 16, "learning_rate": 0.01}
    ddp = workshop.run(workers=2, run_spec={"mode": "ddp"}, **given)
    ddp.finish()
    horovod = workshop.run(workers=2, run_spec=run_spec, **given)
    horovod.finish()
    assert differences(ddp.weights(), horovod.weights()) <= 1e-5


@MODES
def test_a_killed_rank_changes_nothing(
    workshop: Any, run_spec: Spec, chance: random.Random
) -> None:
    given = {"iterations": 60, "every": 10, "batch_size": 8}
    undisturbed = workshop.run(workers=2, run_spec=run_spec, **given)
    undisturbed.finish()
    run = workshop.run(workers=2, run_spec=run_spec, **given)
    both = run.start()
    run.until_step(chance.randrange(12, 40))
    victim = chance.randrange(2)
    os.kill(both[victim].ranks()[victim], signal.SIGKILL)
    run.finish(both)
    assert run.fake.known.generation == 2
    assert differences(run.weights(), undisturbed.weights()) == 0
    assert "Killed" in {end.reason for end in run.fake.known.exits if end.exit_code}


@MODES
def test_interrupted_it_goes_on_where_it_was(workshop: Any, run_spec: Spec) -> None:
    run = workshop.run(workers=2, iterations=300, every=100, batch_size=8, run_spec=run_spec)
    saved = run.interrupt(run.start(), at=20)
    assert 20 <= saved < 300
    run.finish()
    assert run.report()["steps"] == 300
    assert sorted(run.curve()) == list(range(5, 301, 5))


def test_without_horovod_the_shim_takes_its_place(workshop: Any, tmp_path: pathlib.Path) -> None:
    """A startup module of the interpreter hides the package, in agents and ranks alike."""
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    (hiding / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, package=None: (\n"
        "    None if name == 'horovod' else find(name, package))\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(hiding))
        script = scripted(workshop, EXAMPLE.read_text(), MPI, "--epochs", "6")
        started = script.start()
        builtin = workshop.run(workers=2, iterations=20, run_spec=GLOO)
        others = builtin.start()
    script.finish(started)
    builtin.finish(others)
    assert "real Horovod is not installed; quintile's shim" in script.printed()
    assert re.search(r"accuracy 0\.9\d+ on 2 ranks", script.printed())
    assert "real Horovod is not installed; torch.distributed is used" in builtin.printed()
    assert builtin.report()["steps"] == 20
