"""Checkpoints of scripts: any flat folder of files, under the manifest of all checkpoints.

Standard library only.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from quintile_trainer import folders, layout, worker_env

NAME = re.compile(r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$")
FILE_LIMIT = 63


def save(
    env: worker_env.WorkerEnv,
    source: Path,
    *,
    step: int,
    metrics: Mapping[str, float],
    place: tuple[int, int] = (0, 0),
) -> Path:
    """Copy the files of a folder into a complete checkpoint; the agent ships it.

    ``place``: epoch and position of the next sample, where the platform's reader is used.

    Raises:
        ValueError: The folder is empty, has subfolders, too many files, or odd names.
        OSError: It does not fit on the disk.
    """
    names = sorted(path.name for path in source.iterdir())
    _check(source, names)
    name = layout.checkpoint_name(env.generation, step)
    contents = {name: _copy(source / name) for name in names}
    manifest = env.manifest(step=step, epoch=place[0], cursor=place[1], metrics=metrics)
    final = folders.write(env.state.checkpoints, name, contents, manifest)
    folders.forget(env.state.checkpoints)
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


def _copy(path: Path) -> Callable[[BinaryIO], None]:
    def copy(file: BinaryIO) -> None:
        with path.open("rb") as source:
            shutil.copyfileobj(source, file, 1024 * 1024)

    return copy
