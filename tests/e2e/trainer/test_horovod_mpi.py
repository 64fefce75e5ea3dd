"""Modes horovod (Gloo and MPI controllers) and mpi: real Horovod, real Open MPI, no ssh."""

from __future__ import annotations

import importlib.util
import shutil
from typing import Any

import pytest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("horovod") is None, reason="no Horovod here: run `make horovod`"
    ),
    pytest.mark.skipif(
        shutil.which("mpirun") is None, reason="no Open MPI here: apt-get install openmpi-bin"
    ),
]
GLOO = {"mode": "horovod"}
MPI = {"mode": "horovod", "horovod": {"controller": "mpi"}}
PLAIN_MPI = {"mode": "mpi"}
MODES = pytest.mark.parametrize(
    "run_spec", [GLOO, MPI, PLAIN_MPI], ids=["horovod-gloo", "horovod-mpi", "mpi"]
)


@MODES
def test_built_in_model(workshop: Any, run_spec: dict[str, Any]) -> None:
    run = workshop.run(workers=2, iterations=200, batch_size=16, every=80, run_spec=run_spec)
    run.finish()
    report = run.report()
    assert report["evaluation"]["metrics"]["accuracy"] >= 0.9
