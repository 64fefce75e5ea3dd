"""User functions from a code bundle: a cloudpickle, opened in the rank and nowhere else."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from quintile_trainer import failures

HEADER = "header.json"
PICKLE = "functions.pkl"
REQUIRED = "model_fn"
OPTIONAL = ("input_fn", "loss_fn", "metric_fn")
Function = Callable[..., Any]


@dataclass(frozen=True)
class Functions:
    """What the user gave; only ``model`` is always there."""

    model: Function
    inputs: Function | None = None
    loss: Function | None = None
    metric: Function | None = None


def load(folder: Path) -> Functions:
    """Open the functions of an unpacked bundle. Its folder becomes the working directory.

    Raises:
        BadInput: They were made with another Python, or cannot be opened; the message says why.
    """
    header = json.loads((folder / HEADER).read_text())
    check_header(header, python=f"{sys.version_info.major}.{sys.version_info.minor}")
    for line in version_notes(header.get("modules", {})):
        sys.stderr.write(f"[quintile] {line}\n")
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    path = folder / PICKLE
    if not path.is_file():
        raise failures.BadInput(f"the code bundle holds no {PICKLE}; make it with the SDK")
    try:
        # The bundle is the user's own code, in the user's own process: that is what runs here.
        given = pickle.loads(path.read_bytes())
    except Exception as error:  # the boundary to the user's code: opening it runs their modules
        raise failures.BadInput(
            f"the functions cannot be opened here: {failures.sentence(error)}; are all modules "
            "that they import installed on the workers?"
        ) from error
    if not isinstance(given, dict):
        raise failures.BadInput(f"{PICKLE} holds {type(given).__name__}; expected a dictionary")
    return named(given)


def named(given: Mapping[str, Function]) -> Functions:
    """Return the functions by role.

    Raises:
        BadInput: ``model_fn`` is missing or a name is unknown.
    """
    unknown = sorted(set(given) - {REQUIRED, *OPTIONAL})
    if REQUIRED not in given or unknown:
        names = ", ".join(sorted(given)) or "nothing"
        raise failures.BadInput(
            f"the code bundle holds {names}; expected {REQUIRED} and maybe {', '.join(OPTIONAL)}"
        )
    return Functions(
        model=given["model_fn"],
        inputs=given.get("input_fn"),
        loss=given.get("loss_fn"),
        metric=given.get("metric_fn"),
    )


def check_header(header: Mapping[str, Any], *, python: str) -> None:
    """Refuse a bundle of another format or Python.

    Raises:
        BadInput: Names both versions.
    """
    if header.get("format") != 1:
        raise failures.BadInput(f"the code bundle has format {header.get('format')}, expected 1")
    if header.get("python") != python:
        raise failures.BadInput(
            f"the functions were pickled with Python {header.get('python')}, the workers run "
            f"{python}; submit from the same minor version, or run them as a script"
        )


def version_notes(modules: Mapping[str, str]) -> list[str]:
    """Return one line per module whose major version here differs from the submitter's."""
    lines = []
    for name, wanted in sorted(modules.items()):
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            lines.append(f"module {name} {wanted} of the submitter is not installed here")
            continue
        if found.partition(".")[0] != wanted.partition(".")[0]:
            lines.append(f"module {name} is {found} here and was {wanted} at the submitter")
    return lines
