"""User scripts: run as ``__main__`` with the environment that torchrun would give them."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

from quintile_trainer import context, failures, joining, own_curves, worker_env


def run(env: worker_env.WorkerEnv) -> None:
    """Run the script of the experiment in a fresh copy of its bundle.

    Raises:
        BadInput: The entry is not in the bundle.
    """
    spec = env.program["estimator"]["script"]
    folder = _fresh_copy(env)
    os.chdir(folder)
    context.begin(env)
    joining.prepare_script(env)
    if env.servers:
        # There the servers meet, not torch.distributed.
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)
    entry, arguments = spec["entry"], list(spec.get("args", []))
    sys.argv = [entry, *arguments]
    os.environ["QUINTILE_HPARAMS"] = json.dumps(env.hparams)
    curves = env.folder.root / f"curves-{env.rank}"
    os.environ[own_curves.VARIABLE] = str(curves)
    # The metrics of rank 0 are the ones that are shown.
    followed = context.current().follow_curves(curves) if env.rank == 0 else None
    try:
        try:
            if ":" in entry:
                _call(folder, entry)
            else:
                _run_file(folder, entry)
        except SystemExit as leave:
            if leave.code:
                raise
        context.current().leave_servers()
        context.current().tell_accounting()
    finally:
        if followed is not None:
            followed.close()
        context.end()


def _run_file(folder: Path, entry: str) -> None:
    path = (folder / entry).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise failures.BadInput(f"script {entry!r} is not in the code bundle")
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path), run_name="__main__")


def _call(folder: Path, entry: str) -> None:
    module_name, _, qualified = entry.partition(":")
    sys.path.insert(0, str(folder))
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that the entry's own module misses is another matter, with its own traceback.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise failures.BadInput(f"entry {entry!r} is not in the code bundle: {error}") from error
    for part in qualified.split("."):
        target = getattr(target, part, None)
    if not callable(target):
        raise failures.BadInput(
            f"entry {entry!r} is no function of the code bundle; expected module:function"
        )
    target()


def _fresh_copy(env: worker_env.WorkerEnv) -> Path:
    """Return a copy of the bundle of this rank's own: what a script writes stays apart."""
    folder = env.folder.root / f"work-{env.rank}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(env.state.bundle, folder)
    return folder
