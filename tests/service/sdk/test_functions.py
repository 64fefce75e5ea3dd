"""A process of its own opens functions as a rank does; the names of the notebook are not there."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from quintile.sdk import functions

CELL = """
import helping
TABLE = {"width": 3}

class Net:
    def __init__(self, width):
        self.width = helping.double(width)

def model_fn(hparams):
    import json
    return Net(TABLE["width"])
"""
RANK = """
import pathlib, sys
from quintile_trainer import functions
print(functions.load(pathlib.Path(sys.argv[1])).model({}).width)
"""


def test_a_rank_opens_what_was_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "helping.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    cells: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(CELL, "<cell>", "exec"), cells)
    monkeypatch.delitem(sys.modules, "helping")
    bundle = functions.pack({"model_fn": cells["model_fn"]})
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(io.BytesIO(bundle.data)) as archive:
        archive.extractall(folder)
    (tmp_path / "helping.py").unlink()
    found = subprocess.run(
        [sys.executable, "-c", RANK, str(folder)], capture_output=True, text=True, check=False
    )
    assert found.stdout == "6\n", found.stderr
