"""Quintile: label a fifth, certify the rest, train on all of it.

In the ranks of a run, scripts use ``quintile.checkpoint``, ``quintile.restored`` and
``quintile.data.reader``; notebooks and programs use ``quintile.sdk``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def checkpoint(folder: str | Path, *, step: int | None = None, **metrics: float) -> None:
    """Save the files of a folder as a checkpoint of the run; only rank 0 writes.

    Args:
        folder: Plain files, no subfolders.
        step: Steps that are done; None = up to the newest batch of ``quintile.data.reader``.
        **metrics: What the checkpoint is worth, as ``loss``.

    Raises:
        ValueError: The folder does not do, or no step is known.
    """
    run = importlib.import_module("quintile_trainer.context").current()
    if step is None:
        run.checkpoint_here(folder, **metrics)
    else:
        run.checkpoint(step, folder, **metrics)


def restored() -> Path | None:
    """Return the folder of the newest checkpoint's files; None at the first start. Read-only."""
    run = importlib.import_module("quintile_trainer.context").current()
    found: Path | None = run.restored_folder()
    return found
