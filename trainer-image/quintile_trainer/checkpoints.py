"""Checkpoints, format 1: tensors by parameter name, a small state, and a manifest written last.

Rank 0 writes ``model.safetensors``, ``optimizer.safetensors``, ``state.json`` and, last,
``manifest.json`` into a hidden folder, and renames it: a folder with a manifest is complete. Saving
copies the tensors (that is the stall) and writes in the background. Any world size reads the
result, since nothing in it is keyed by rank.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Mapping
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors

from quintile_trainer import failures, layout, worker_env

FORMAT = 1
KEEP = 2
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
MANIFEST = "manifest.json"
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
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Identity:
    """What a manifest says of the run."""

    trial_uid: str
    attempt: int
    generation: int
    world_size: int
    dataset_digest: str
    code_sha256: str = ""


def identity_of(env: worker_env.WorkerEnv) -> Identity:
    """Return what the manifests of this generation say of the run."""
    estimator = env.program["estimator"]
    code = next((block["bundle"] for block in estimator.values() if "bundle" in block), "")
    return Identity(
        trial_uid=env.trial_uid,
        attempt=env.attempt,
        generation=env.generation,
        world_size=env.world_size,
        dataset_digest=env.access["digest"] if env.access else "",
        code_sha256=code,
    )


class Saver:
    """Writes checkpoints of rank 0 in the background, one at a time, and keeps the newest."""

    def __init__(self, folder: Path, identity: Identity, *, keep: int = KEEP) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._identity = identity
        self._keep = keep
        self._pool = futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: futures.Future[Path] | None = None
        self._lock = threading.Lock()

    def save(self, snapshot: Snapshot) -> None:
        """Begin to write; waits for the one before.

        Raises:
            OSError: The one before could not be written.
        """
        self.wait()
        with self._lock:
            self._pending = self._pool.submit(
                write, self._folder, snapshot, self._identity, keep=self._keep
            )

    def wait(self) -> None:
        """Return when nothing is being written. Raises as ``save``."""
        with self._lock:
            pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Finish and stop. Raises as ``save``."""
        self.wait()
        self._pool.shutdown()


def write(folder: Path, snapshot: Snapshot, identity: Identity, *, keep: int = KEEP) -> Path:
    """Write one complete checkpoint below ``folder`` and forget all but the newest ``keep``."""
    name = layout.checkpoint_name(identity.generation, snapshot.step)
    contents = {
        MODEL: safetensors.save(snapshot.model),
        OPTIMIZER: safetensors.save(snapshot.optimizer),
        STATE: json.dumps(snapshot.state, sort_keys=True).encode(),
    }
    return write_files(folder, name, contents, _manifest(snapshot, identity), keep=keep)


def write_files(
    folder: Path, name: str, contents: Mapping[str, bytes], manifest: dict[str, Any], *, keep: int
) -> Path:
    """Write files and, last, the manifest that lists them; the folder appears whole."""
    final = folder / name
    temporary = folder / f".{name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    files = []
    for path, data in contents.items():
        _write(temporary / path, data)
        digest = hashlib.sha256(data).hexdigest()
        files.append({"path": path, "size": len(data), "sha256": digest})
    listed = json.dumps({**manifest, "files": files}, sort_keys=True)
    _write(temporary / MANIFEST, listed.encode())
    shutil.rmtree(final, ignore_errors=True)
    temporary.replace(final)
    _sync_folder(folder)
    for old in layout.local_checkpoints(folder)[:-keep]:
        shutil.rmtree(old.folder, ignore_errors=True)
    return final


def newest(folder: Path) -> layout.Checkpoint | None:
    """Return the newest checkpoint below a folder whose files are all as its manifest says."""
    for entry in reversed(layout.local_checkpoints(folder)):
        if not problems(entry.folder):
            return entry
    return None


def problems(folder: Path) -> list[str]:
    """Return what is wrong with a checkpoint, empty when it verifies."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        return [f"{MANIFEST} cannot be read: {error}"]
    found = []
    for file in manifest["files"]:
        path = folder / file["path"]
        if not path.is_file():
            found.append(f"{file['path']} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != file["sha256"]:
            found.append(f"{file['path']} has another SHA-256")
    return found


def read(folder: Path) -> Snapshot:
    """Return the state that a checkpoint holds.

    Raises:
        Broken: It does not verify, or is of a format that this release does not know.
    """
    wrong = problems(folder)
    if wrong:
        raise failures.Broken(f"checkpoint {folder.name} cannot be used: {'; '.join(wrong)}")
    manifest = json.loads((folder / MANIFEST).read_text())
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


def manifest_of(
    identity: Identity, *, step: int, epoch: int, cursor: int, metrics: Mapping[str, float]
) -> dict[str, Any]:
    """Return a manifest (``messages.CheckpointManifest``) without its files."""
    return {
        "format": FORMAT,
        "trial_uid": identity.trial_uid,
        "attempt": identity.attempt,
        "generation": identity.generation,
        "step": step,
        "epoch": epoch,
        "cursor": cursor,
        "world_size": identity.world_size,
        "dataset_digest": identity.dataset_digest,
        "code_sha256": identity.code_sha256,
        "metrics": dict(metrics),
    }


def _manifest(snapshot: Snapshot, identity: Identity) -> dict[str, Any]:
    return manifest_of(
        identity,
        step=snapshot.step,
        epoch=snapshot.epoch,
        cursor=snapshot.cursor,
        metrics=snapshot.metrics,
    )


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
