"""Scripts with hvd.elastic as Horovod documents it: killed, and at another size, they go on.

With real Horovod under both controllers, and on the shim where the package is hidden. Every batch
takes exactly 1 from a weight, on any number of ranks; so at the end the weight tells how many were
learnt, whatever happened in between.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import shutil
import signal
from typing import Any

import pytest

from quintile.testing import agents

pytestmark = pytest.mark.torch
SCRIPT = """
    import os
    import pathlib
    import horovod.torch as hvd
    import torch

    hvd.init()
    enough = pathlib.Path(os.environ["FOLDER"]) / "enough"
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.0)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
    state = hvd.elastic.TorchState(model=model, optimizer=optimizer, batch=0, epoch=0)
    state.register_reset_callbacks([lambda: print("a reset", flush=True)])

    @hvd.elastic.run
    def train(state):
        where = f"{hvd.rank()} of {hvd.size()}"
        print(f"rank {where} begins at batch {state.batch}: {model.weight.item():g}", flush=True)
        while not hvd.broadcast_object(enough.exists()):
            optimizer.zero_grad()
            model(torch.ones(1, 1)).sum().backward()
            optimizer.step()
            state.batch += 1
            state.commit()

    train(state)
    print(f"rank {hvd.rank()} ends at batch {state.batch}: {model.weight.item():g}", flush=True)
"""
REAL = pytest.mark.skipif(
    importlib.util.find_spec("horovod") is None, reason="no Horovod here: run `make horovod`"
)
MPI = pytest.mark.skipif(
    shutil.which("mpirun") is None, reason="no Open MPI here: apt-get install openmpi-bin"
)
HIDES = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name == "horovod" else find(name, package))
"""
# Ranks that do nothing but exchange leave the agents little of a small machine.
SPEED = {"elastic_window_s": 1.0, "elastic_cooldown_s": 0.5, "agent_silence_s": 30.0}


@pytest.fixture
def shim(tmp_path: pathlib.Path) -> dict[str, str]:
    """Variables under which real Horovod is not found."""
    folder = tmp_path / "hiding"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HIDES)
    return {"PYTHONPATH": str(folder)}


def lines(run: Any, word: str) -> list[str]:
    return [line["line"] for line in run.logs() if word in line["line"]]


def ends(run: Any) -> None:
    """Let the run end, and see that each batch was learnt once by every rank."""
    (run.folder / "enough").touch()
    for agent in run.attempts[0].agents:
        assert agent.wait() == 0, agent.said
    assert run.facts.state == "succeeded"
    found = lines(run, " ends at batch ")
    assert found
    for line in found:
        batch, weight = re.findall(r"batch (\d+): (\S+)", line)[0]
        assert int(batch) == -float(weight), line


@pytest.mark.parametrize("controller", [pytest.param("gloo"), pytest.param("mpi", marks=MPI)])
@pytest.mark.parametrize("server", [SPEED], indirect=True)
@REAL
def test_after_a_kill_it_goes_on_from_the_newest_checkpoint(bench: Any, controller: str) -> None:
    spec = {"mode": "horovod", "workers": {"replicas": 2}, "horovod": {"controller": controller}}
    run = bench.script(SCRIPT, run=spec)
    first, second = run.start()
    agents.until(lambda: run.server.checkpoints(run.uid), what="a checkpoint")
    [(_, step)] = run.server.checkpoints(run.uid)
    os.kill(second.ranks()[1], signal.SIGKILL)
    agents.until(lambda: len(lines(run, "begins at")) == 4, what="both ranks begin again")
    for rank in (0, 1):
        assert f"rank {rank} of 2 begins at batch {step}: -{step}" in lines(run, "begins at")
    assert len(lines(run, "a reset")) == 2
    ends(run)
    assert (run.facts.generation, run.facts.in_place_restarts) == (2, 1)
    assert (first.wait(), second.wait()) == (0, 0)


@pytest.mark.parametrize("server", [SPEED], indirect=True)
@pytest.mark.parametrize(
    "is_shim", [pytest.param(False, marks=REAL, id="gloo"), pytest.param(True, id="shim")]
)
def test_its_number_of_workers_changes_and_nothing_is_done_twice(
    bench: Any, shim: dict[str, str], is_shim: bool
) -> None:
    spec = {"mode": "horovod", "workers": {"replicas": 2, "min": 1, "max": 3}}
    run = bench.script(SCRIPT, elastic=True, run=spec)
    run.start(**(shim if is_shim else {}))
    attempt = run.attempts[0]
    agents.until(lambda: run.facts.step > 5, what="commits of two workers")
    attempt.resize(3)
    third = attempt.start_one(2)
    agents.until(lambda: run.facts.workers == 3 and run.facts.step >= 0, what="three workers")
    agents.until(lambda: len(lines(run, "of 3 begins")) == 3, what="three ranks begin")
    third.terminate()
    assert third.wait() == 75
    agents.until(lambda: len(lines(run, "of 2 begins")) == 4, what="two ranks go on")
    attempt.agents.remove(third)
    assert bool(lines(run, "quintile's shim over torch.distributed is used")) == is_shim
    begins = [int(re.findall(r"batch (\d+):", line)[0]) for line in lines(run, "begins at")]
    assert begins[:2] == [0, 0]
    assert 5 < begins[2] < begins[-1]
    ends(run)
    assert run.facts.in_place_restarts == 0
