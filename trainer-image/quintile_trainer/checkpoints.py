"""Checkpoints, format 1: tensors by parameter name, a small state, and a manifest written last.

Rank 0 writes ``model.safetensors``, ``optimizer.safetensors``, ``state.json`` and, last,
``manifest.json`` (see ``folders``). Saving copies the tensors (that is the stall) and writes in
the background. Any world size reads the result, since nothing in it is keyed by rank.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors

from quintile_trainer import failures, folders, layout, worker_env

FORMAT = 1
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Snapshot:
    """Training state after ``step`` global steps; the tensors are copies of our own.

    ``epoch`` and ``cursor`` say where the next sample is taken; ``state`` is small and JSON.
    """

    step: int
    epoch: int
    cursor: int
    model: Tensors
    optimizer: Tensors
    state: dict[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)


class Saver:
    """Writes checkpoints of rank 0 in the background, one at a time, and keeps the newest.

    Used by one thread.
    """

    def __init__(self, env: worker_env.WorkerEnv, *, keep: int = folders.KEEP) -> None:
        env.state.checkpoints.mkdir(parents=True, exist_ok=True)
        self._env = env
        self._keep = keep
        self._pool = futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: futures.Future[Path | None] | None = None

    def save(self, snapshot: Snapshot | Callable[[], Snapshot | None]) -> None:
        """Begin to write; waits for the one before.

        Args:
            snapshot: What to write, or what makes it in the background; None = nothing to write.

        Raises:
            DiskFull: The one before does not fit, even after older ones went.
            OSError: It could not be written for another reason.
        """
        self.wait()
        self._pending = self._pool.submit(self._write, snapshot)

    def put(self, contents: folders.Contents, manifest: Mapping[str, Any]) -> None:
        """Begin to write other files under a manifest, see ``put``. Raises as ``save``."""
        self.wait()
        self._pending = self._pool.submit(put, self._env, contents, manifest, keep=self._keep)

    def wait(self) -> None:
        """Return when nothing is being written. Raises as ``save``."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Finish and stop. Raises as ``save``."""
        self.wait()
        self._pool.shutdown()

    def _write(self, snapshot: Snapshot | Callable[[], Snapshot | None]) -> Path | None:
        found = snapshot() if callable(snapshot) else snapshot
        return write(self._env, found, keep=self._keep) if found is not None else None


def write(env: worker_env.WorkerEnv, snapshot: Snapshot, *, keep: int = folders.KEEP) -> Path:
    """Write one complete checkpoint of a rank's state folder and forget all but the newest.

    Raises:
        DiskFull: It does not fit, even after older ones went.
    """
    contents: folders.Contents = {
        MODEL: lambda file: file.write(safetensors.save(snapshot.model)),
        OPTIMIZER: lambda file: file.write(safetensors.save(snapshot.optimizer)),
        STATE: lambda file: file.write(json.dumps(snapshot.state, sort_keys=True).encode()),
    }
    manifest = env.manifest(
        step=snapshot.step,
        epoch=snapshot.epoch,
        cursor=snapshot.cursor,
        metrics=snapshot.metrics,
    )
    return put(env, contents, manifest, keep=keep)


def put(
    env: worker_env.WorkerEnv,
    contents: folders.Contents,
    manifest: Mapping[str, Any],
    *,
    keep: int = folders.KEEP,
) -> Path:
    """Write files and their manifest as one complete checkpoint. Raises as ``write``."""
    folder = env.state.checkpoints
    name = layout.checkpoint_name(env.generation, manifest["step"])
    try:
        final = folders.write(folder, name, contents, manifest)
    except OSError as error:
        if not failures.is_full(error):
            raise
        # The newest complete one is all that a restart needs.
        folders.forget(folder, keep=1)
        try:
            final = folders.write(folder, name, contents, manifest)
        except OSError as again:
            raise failures.DiskFull(
                f"the checkpoint of step {manifest['step']} does not fit on the disk of the "
                f"worker: {again.strerror}; make room, or save less often (checkpoint.everySteps)"
            ) from None
    folders.forget(folder, keep=keep)
    return final


def read(folder: Path) -> Snapshot:
    """Return the state that a checkpoint holds.

    Raises:
        Broken: It does not verify, or is of a format that this release does not know.
    """
    wrong = folders.problems(folder)
    if wrong:
        raise failures.Broken(f"checkpoint {folder.name} cannot be used: {'; '.join(wrong)}")
    manifest = folders.manifest_of(folder)
    assert manifest is not None
    if manifest["format"] != FORMAT:
        raise failures.Broken(
            f"checkpoint {folder.name} has format {manifest['format']}, expected {FORMAT}"
        )
    return Snapshot(
        step=manifest["step"],
        epoch=manifest["epoch"],
        cursor=manifest["cursor"],
        model=safetensors.load((folder / MODEL).read_bytes()),
        optimizer=safetensors.load((folder / OPTIMIZER).read_bytes()),
        state=json.loads((folder / STATE).read_text()),
        metrics=manifest["metrics"],
    )
