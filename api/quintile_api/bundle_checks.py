"""What is refused about a code bundle when an experiment is made, before any worker opens it.

Only its header is read, which is JSON; code is never opened here.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from typing import Any, Final

from quintile import ports
from quintile.core import errors, experiment, names

HEADER: Final = "header.json"
HEADER_LIMIT_BYTES: Final = 1024 * 1024


def check(objects: ports.ObjectStore, estimator: experiment.EstimatorSpec, *, python: str) -> None:
    """Refuse a bundle that is not stored, or whose functions the workers could not open.

    Args:
        objects: Where bundles lie.
        estimator: What shall run.
        python: The interpreter of the workers.

    Raises:
        InvalidSpec: Says what does not fit.
    """
    block = estimator.functions or estimator.script
    if block is None:
        return
    key = names.bundle_key(block.bundle)
    if not any(info.key == key for info in objects.list(key)):
        raise errors.InvalidSpec(
            f"There is no code bundle {block.bundle[:12]}….",
            hint=f"Send it first: PUT /api/v1/bundles/{block.bundle}.",
            field="spec.estimator",
        )
    # Another interpreter than our own is an image's; the ranks there check for themselves.
    if estimator.functions is not None and python == sys.executable:
        workers = f"{sys.version_info.major}.{sys.version_info.minor}"
        check_header(header_of(objects.get(key)), workers=workers)


def header_of(bundle: bytes) -> dict[str, Any]:
    """Return the header of a bundle.

    Raises:
        InvalidSpec: It is no bundle of ours.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            if archive.getinfo(HEADER).file_size > HEADER_LIMIT_BYTES:
                raise ValueError("its header is too long")
            found = json.loads(archive.read(HEADER))
            if not isinstance(found, dict):
                raise ValueError("its header is no mapping")
    except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError, EOFError) as error:
        raise errors.InvalidSpec(
            f"The code bundle is not one that the SDK makes: {error}.",
            hint="Submit with Experiment.run or `quintile run`.",
            field="spec.estimator",
        ) from error
    return found


def check_header(header: dict[str, Any], *, workers: str) -> None:
    """Refuse functions that were pickled with another minor version of Python. Pure.

    Raises:
        InvalidSpec: They were; names both versions.
    """
    made = header.get("python")
    if made != workers:
        raise errors.InvalidSpec(
            f"The functions were pickled with Python {made}, and the workers run {workers}, which "
            "cannot open them.",
            hint=f"Submit from Python {workers}, or run the code as a script.",
            field="spec.estimator.functions",
        )
