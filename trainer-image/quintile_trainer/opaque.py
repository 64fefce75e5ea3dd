"""Checkpoints of scripts: any flat folder of files, under the manifest of all checkpoints.

Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from quintile_trainer import layout, worker_env

NAME = re.compile(r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$")
FILE_LIMIT = 63
KEEP = 2


def save(
    env: worker_env.WorkerEnv, source: Path, *, step: int, metrics: Mapping[str, float]
) -> Path:
    """Copy the files of a folder into a complete checkpoint; the agent ships it.

    Raises:
        ValueError: The folder is empty, has subfolders, too many files, or odd names.
    """
    names = sorted(path.name for path in source.iterdir())
    _check(source, names)
    folder = env.state.checkpoints
    final = folder / layout.checkpoint_name(env.generation, step)
    temporary = folder / f".{final.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    files = []
    for name in names:
        shutil.copyfile(source / name, temporary / name)
        files.append(_described(temporary / name))
    manifest = {
        "format": 1,
        "trial_uid": env.trial_uid,
        "attempt": env.attempt,
        "generation": env.generation,
        "step": step,
        "epoch": 0,
        "cursor": 0,
        "world_size": env.world_size,
        "dataset_digest": env.access["digest"] if env.access else "",
        "code_sha256": (env.program["estimator"].get("script") or {}).get("bundle", ""),
        "metrics": dict(metrics),
        "files": files,
    }
    (temporary / layout.MANIFEST).write_text(json.dumps(manifest, sort_keys=True))
    _sync(temporary / layout.MANIFEST)
    shutil.rmtree(final, ignore_errors=True)
    temporary.replace(final)
    for old in layout.local_checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old.folder, ignore_errors=True)
    return final


def _check(source: Path, names: list[str]) -> None:
    if not names or len(names) > FILE_LIMIT:
        raise ValueError(f"{source} holds {len(names)} files; expected 1 to {FILE_LIMIT}")
    for name in names:
        if not (source / name).is_file() or not NAME.match(name) or name == layout.MANIFEST:
            raise ValueError(
                f"{source / name} cannot be part of a checkpoint; expected plain files with names "
                f"of letters, digits, dot, dash and underscore, none called {layout.MANIFEST}"
            )


def _described(path: Path) -> dict[str, str | int]:
    _sync(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": path.name, "size": path.stat().st_size, "sha256": digest}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
