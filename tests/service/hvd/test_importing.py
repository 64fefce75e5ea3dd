"""``import horovod.torch``: the real one if it loads, the shim otherwise, and a word about it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch


def run(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    begin = f"import sys; sys.path[:0] = {[str(path) for path in paths]}\n"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", begin + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_nothing_heavy_loads_and_nothing_is_said_before_the_import() -> None:
    done = run(
        """
        from quintile_trainer import hvd
        hvd.install(hvd.Choice.SHIM)
        assert "torch" not in sys.modules
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_shim_is_horovod_to_a_script() -> None:
    done = run(
        """
        from quintile_trainer import hvd
        assert hvd.install(hvd.Choice.SHIM) is hvd.Choice.SHIM
        assert hvd.install() is hvd.Choice.SHIM  # once is enough
        import horovod
        import horovod.torch as first
        from horovod import torch as second
        from horovod.torch.compression import Compression
        from horovod.torch.mpi_ops import allreduce
        from horovod.common.exceptions import HorovodInternalError
        import horovod.torch.elastic
        assert first is second
        assert first.Compression is Compression
        assert first.HorovodInternalError is HorovodInternalError
        assert horovod.__version__.startswith("0.28.1")
        assert (first.Average, first.Sum, first.Min, first.Max, first.Product) == (0, 1, 3, 4, 5)
        assert not first.mpi_built() and not first.mpi_enabled() and first.gloo_built()
        assert not first.is_initialized()
        try:
            first.rank()
        except ValueError as error:
            assert "hvd.init()" in str(error)
        for missing in ("import horovod.tensorflow", "from horovod.torch import ProcessSet"):
            try:
                exec(missing)
            except ImportError as error:
                print(error)
        try:
            first.start_timeline
        except AttributeError as error:
            print(error)
        """
    )
    assert done.returncode == 0, done.stderr
    line = "[quintile] Horovod's shim is asked for; quintile's shim over torch.distributed is used"
    assert done.stderr.splitlines() == [line]
    assert "horovod.tensorflow is not in quintile's Horovod shim; run `make horovod`" in done.stdout
    assert "start_timeline is not in quintile's Horovod shim; run `make horovod`" in done.stdout


def test_a_horovod_that_does_not_load_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "horovod" / "torch"
    folder.mkdir(parents=True)
    (tmp_path / "horovod" / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("raise ImportError('libmpi.so.40: not found')\n")
    done = run(
        """
        from quintile_trainer import hvd
        assert hvd.install() is hvd.Choice.SHIM
        import horovod.torch
        horovod.torch.init()
        print(horovod.torch.size())
        """,
        tmp_path,
    )
    assert done.stdout == "1\n", done.stderr
    assert "the installed Horovod does not load (libmpi.so.40: not found)" in done.stderr


def test_a_horovod_that_loads_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "horovod" / "torch"
    folder.mkdir(parents=True)
    (tmp_path / "horovod" / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("mine = True\n")
    done = run(
        """
        from quintile_trainer import hvd
        assert hvd.install() is hvd.Choice.REAL
        import horovod.torch
        assert horovod.torch.mine
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
