"""The user's functions as a code bundle: a cloudpickle, a header, and the user's own modules.

Only a rank opens the pickle. What can go wrong there is refused here: another Python, data that is
too big, values that cannot be pickled.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any, Final

from quintile.core import errors
from quintile.sdk import bundles, captured

PICKLE: Final = "functions.pkl"
CAPTURED_LIMIT_BYTES: Final = 10 * 1000 * 1000
Function = Callable[..., Any]


def pack(functions: Mapping[str, Function]) -> bundles.Bundle:
    """Return the bundle of functions by role (``model_fn``, ``input_fn``, ...).

    Raises:
        InvalidSpec: Something that they refer to is too big or cannot be pickled; names it.
        TooLarge: More than 50 MB in all.
    """
    import cloudpickle

    given = dict(functions)
    _check_captured(given.values())
    names = captured.imported(given.values())
    contents = {name: path.read_bytes() for name, path in captured.local_files(names).items()}
    try:
        contents[PICKLE] = cloudpickle.dumps(given)
    except Exception as error:  # pickling runs the code of any object that is reached
        raise errors.InvalidSpec(
            f"The functions {', '.join(sorted(given))} cannot be pickled: {error}.",
            hint="Create what cannot be pickled inside of the functions.",
            field="estimator",
        ) from error
    header = {
        "kind": "functions",
        "cloudpickle": metadata.version("cloudpickle"),
        "modules": versions(names),
    }
    return bundles.pack(contents, header)


def versions(modules: Iterable[str]) -> dict[str, str]:
    """Return the versions of the installed distributions that modules come from."""
    tops = {name.partition(".")[0] for name in modules}
    found = {home for top in tops for home in _homes().get(top, ())}
    return {name: metadata.version(name) for name in sorted(found)}


@functools.cache
def _homes() -> Mapping[str, list[str]]:
    """Return distributions by top-level module; reading them takes a while, so once a process."""
    return metadata.packages_distributions()


def _check_captured(functions: Iterable[Function]) -> None:
    for name, value in captured.reached(functions):
        if isinstance(value, types.ModuleType | types.FunctionType | type):
            continue
        size_bytes = _size_bytes(name, value)
        if size_bytes > CAPTURED_LIMIT_BYTES:
            raise errors.InvalidSpec(
                f"{name!r} ({type(value).__name__}, {size_bytes / 1e6:.1f} MB) would be sent with "
                f"the functions that use it; at most {CAPTURED_LIMIT_BYTES / 1e6:.0f} MB may be.",
                hint="Load it inside of the function, or import it as a dataset.",
                field=name,
            )


def _size_bytes(name: str, value: object) -> int:
    import cloudpickle

    known = getattr(value, "nbytes", None)
    if isinstance(known, int) and known > CAPTURED_LIMIT_BYTES:
        return known
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    try:
        return len(cloudpickle.dumps(value))
    except Exception as error:  # as above: any object may fail in its own way
        if name.partition(".")[2]:  # a member of a class: only the whole class tells
            return 0
        raise errors.InvalidSpec(
            f"{name!r} ({type(value).__name__}) cannot be sent with the functions that use it: "
            f"{error}.",
            hint="Create it inside of the function.",
            field=name,
        ) from error
