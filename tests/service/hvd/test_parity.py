"""One unchanged script in the style of Horovod's documentation: the shim gives Horovod's weights.

The comparison needs a Python that has Horovod: this one, or the one that
``QUINTILE_TEST_HOROVOD_PYTHON`` names (with torch, and mpirun on the path).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).parent / "scripts" / "documentation_style.py"
RUNNER = """
import runpy, sys
from quintile_trainer import hvd
assert hvd.install(hvd.Choice.SHIM) is hvd.Choice.SHIM
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
WAYS = {
    "documentation": (),
    "clipping with adam": ("--optimizer", "adam", "--clip"),
    "two passes, summed": ("--passes", "2", "--use-sum"),
    "16 bits": ("--fp16-allreduce",),
}
Saved = dict[str, Any]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def by_shim(world_size: int, out: Path, options: Sequence[str]) -> Saved:
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-c", RUNNER, str(SCRIPT), "--out", str(out), *options]
    ranks = []
    for rank in range(world_size):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
        ranks.append(
            subprocess.Popen(
                command,
                env={**os.environ, **meeting, **place},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        words = [rank.communicate(timeout=120)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert [rank.returncode for rank in ranks] == [0] * world_size, words
    assert all("quintile's shim over torch.distributed is used" in text for text in words)
    saved: Saved = torch.load(out)
    return saved


def by_horovod(python: str, world_size: int, out: Path, options: Sequence[str]) -> Saved:
    launch = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
    launch += ["-np", str(world_size), python, str(SCRIPT), "--out", str(out), *options]
    # Open MPI keeps its sockets in a folder whose path must be short.
    subprocess.run(launch, check=True, timeout=200, env={**os.environ, "TMPDIR": "/tmp"})
    saved: Saved = torch.load(out)
    return saved


def horovod_python() -> str:
    named = os.environ.get("QUINTILE_TEST_HOROVOD_PYTHON", "")
    if named:
        return named
    if importlib.util.find_spec("horovod") is None:
        pytest.skip("horovod is not importable here; run `make horovod` to compare with it")
    return sys.executable


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_equals_real_horovod(options: tuple[str, ...], tmp_path: Path) -> None:
    python = horovod_python()
    if shutil.which("mpirun") is None:
        pytest.skip("mpirun is not installed; the real wheel is started by it")
    ours = by_shim(2, tmp_path / "ours.pt", options)
    real = by_horovod(python, 2, tmp_path / "real.pt", options)
    assert ours["model"].keys() == real["model"].keys()
    for name, value in real["model"].items():
        assert (ours["model"][name] - value).abs().max() <= 1e-6, name
    for number, state in real["momenta"].items():
        for name, value in state.items():
            found = torch.as_tensor(ours["momenta"][number][name])
            assert (found - torch.as_tensor(value)).abs().max() <= 1e-6, (number, name)
    for what in ("metrics", "losses"):
        assert torch.allclose(torch.as_tensor(ours[what]), torch.as_tensor(real[what]), atol=1e-6)
    for what in ("names", "places", "last"):
        assert ours[what] == real[what]
    assert torch.equal(ours["counts"], real["counts"])


def test_the_script_runs_with_three_ranks(tmp_path: Path) -> None:
    saved = by_shim(3, tmp_path / "ours.pt", ["--epochs", "1"])
    assert saved["places"] == [3, 3, 1]
    assert saved["losses"].view(3, 2)[:, 1].tolist() == [0.0, 1.0, 2.0]
    assert saved["counts"].tolist() == [6]
    assert saved["names"] == [{"rank": rank, "local": rank} for rank in range(3)]


def test_without_a_meeting_place_the_script_says_what_is_missing() -> None:
    place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "", "MASTER_PORT": ""}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(SCRIPT), "--out", "unused"],
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert "rank 0 of 2 does not know where to meet: set MASTER_ADDR" in done.stderr
